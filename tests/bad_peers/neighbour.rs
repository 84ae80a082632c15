//! A well-behaved client beside the bad ones: it calls `Echo` all the time and takes the time of every answer.
//!
//! It has a thread and a blocking socket of its own, so that what it measures is the gateway and not this test's
//! runtime. It is paced: one call each [`PACE`], so that it does not occupy the machine itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wire::{END, find, frame, handshake};

/// The host by which the gateway finds the neighbour's hub, which is not the attacked one.
pub const HOST: &str = "neighbour";
/// Time between the beginnings of two calls.
const PACE: Duration = Duration::from_millis(2);
/// Calls in one block of the statistic.
pub const BLOCK: usize = 50;

/// The neighbour, echoing.
pub struct Neighbour {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Result<(), String>>>,
    times: Receiver<Duration>,
}

impl Neighbour {
    /// Connects to the contract hub of the host [`HOST`] and begins.
    pub fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let (send, times) = channel();
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let mut socket = Socket::open(address)?;
            let mut number = 0_u64;
            while !stopped.load(Relaxed) {
                let began = Instant::now();
                socket.echo(number)?;
                let took = began.elapsed();
                let _nobody_measures = send.send(took);
                counted.fetch_add(1, Relaxed);
                number += 1;
                std::thread::sleep(PACE.saturating_sub(took));
            }
            Ok(())
        });
        Self { stop, done, thread: Some(thread), times }
    }

    /// The times since the last look, with those that calls would have had that were not made while one took long:
    /// else a long wait would count as one call of many.
    pub fn times(&self) -> Vec<Duration> {
        let mut times = Vec::new();
        for took in self.times.try_iter() {
            let mut rest = took;
            times.push(rest);
            while rest > PACE {
                rest -= PACE;
                times.push(rest);
            }
        }
        times
    }

    /// Waits for that many more calls.
    pub async fn calls(&self, count: usize) {
        let until = self.done.load(Relaxed) + count;
        let began = Instant::now();
        while self.done.load(Relaxed) < until {
            let lives = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            assert!(lives && began.elapsed() < crate::PATIENCE, "the neighbour has stopped");
            tokio::time::sleep(PACE).await;
        }
    }

    /// Ends it; it must have got every answer.
    pub fn finish(mut self) {
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().expect("is joined once");
        let outcome = thread.join().expect("the neighbour does not panic");
        assert_eq!(outcome, Ok(()), "the neighbour was disturbed");
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// The 99th of a hundred.
pub fn p99(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

/// The median over blocks of calls of each block's second worst time.
///
/// A p99 over all calls belongs to whatever else the machine did for a few milliseconds; a load that the gateway lets
/// through to a neighbour shows in every block.
pub fn block_p99(times: &[Duration]) -> Duration {
    let mut worst: Vec<Duration> = times
        .chunks_exact(BLOCK)
        .map(|block| {
            let mut block = block.to_vec();
            block.sort_unstable();
            block[BLOCK - 2]
        })
        .collect();
    worst.sort_unstable();
    worst.get(worst.len() / 2).copied().unwrap_or_default()
}

struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Socket {
    fn open(address: SocketAddr) -> Result<Self, String> {
        let fail = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(address).map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        stream.set_read_timeout(Some(crate::PATIENCE)).map_err(fail)?;
        let head = format!(
            "GET /contract HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).map_err(fail)?;
        stream.write_all(&frame(0x81, handshake().as_bytes())).map_err(fail)?;
        let mut socket = Self { stream, buffer: Vec::new() };
        socket.read_past(format!("{{}}{END}").as_bytes())?;
        Ok(socket)
    }

    fn echo(&mut self, number: u64) -> Result<(), String> {
        let call = format!(r#"{{"type":1,"invocationId":"{number}","target":"Echo","arguments":["n{number}"]}}{END}"#);
        let sent = self.stream.write_all(&frame(0x81, call.as_bytes()));
        sent.map_err(|error| error.to_string())?;
        self.read_past(format!(r#"{{"type":3,"invocationId":"{number}","result":"n{number}"}}{END}"#).as_bytes())
    }

    /// Reads until these bytes have come. Everything asked for comes in order, so nothing else may hide them for long.
    fn read_past(&mut self, wanted: &[u8]) -> Result<(), String> {
        loop {
            if let Some(at) = find(&self.buffer, wanted) {
                self.buffer.drain(..at + wanted.len());
                return Ok(());
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err("the neighbour's connection was closed".to_owned()),
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) => return Err(error.to_string()),
            }
            if self.buffer.len() > 4096 {
                return Err(format!("unexpected: {}", String::from_utf8_lossy(&self.buffer)));
            }
        }
    }
}
