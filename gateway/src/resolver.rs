//! Names of servers to addresses: the system's answer, or that of whoever starts the gateway as a library (rule D1).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
type Ask = dyn Fn(&str, u16) -> Answer + Send + Sync;

/// Finds the addresses of servers given by name; by default as the system does (`getaddrinfo`).
#[derive(Clone, Default)]
pub struct Resolver(Option<Arc<Ask>>);

impl Resolver {
    /// Asks `resolve` with a name and the port that goes into its addresses.
    pub fn new<F>(resolve: impl Fn(&str, u16) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Some(Arc::new(move |name, port| Box::pin(resolve(name, port)))))
    }

    /// All addresses of a name.
    ///
    /// # Errors
    /// There is no such name, or nobody can tell.
    pub(crate) async fn addresses(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match &self.0 {
            Some(resolve) => resolve(name, port).await,
            None => tokio::net::lookup_host((name, port)).await.map(Iterator::collect),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_some() { "Resolver(own)" } else { "Resolver(system)" })
    }
}
