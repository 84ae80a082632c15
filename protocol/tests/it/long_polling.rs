//! Long polling: the server's answers and the client's half (signalr-wire §5.4).

use bytes::Bytes;
use hubgate_protocol::limits::POST_QUEUE_BYTES_MAX;
use hubgate_protocol::long_polling::{End, Event, PollOutcome, PollingClient, QueueFull, Request};

fn requests(client: &mut PollingClient) -> Vec<Request> {
    std::iter::from_fn(|| client.next_request()).collect()
}

fn events(client: &mut PollingClient) -> Vec<Event> {
    std::iter::from_fn(|| client.next_event()).collect()
}

fn opened() -> PollingClient {
    let mut client = PollingClient::new();
    assert_eq!(requests(&mut client), [Request::Poll]);
    client.poll_answered(200, Bytes::new());
    assert_eq!(events(&mut client), [Event::Opened]);
    client
}

#[test]
fn a_server_answers_as_the_table_says() {
    let data = Bytes::from_static(b"{}\x1e");
    for (outcome, status, content_type, body, ends) in [
        (PollOutcome::First, 200, "application/octet-stream", Bytes::new(), false),
        (PollOutcome::Data(data.clone()), 200, "application/octet-stream", data, false),
        (PollOutcome::TimedOut, 200, "text/plain", Bytes::new(), false),
        (PollOutcome::Replaced, 204, "text/plain", Bytes::new(), false),
        (PollOutcome::Conflict, 409, "text/plain", Bytes::new(), false),
        (PollOutcome::Ended, 204, "text/plain", Bytes::new(), true),
        (PollOutcome::Failed, 500, "text/plain", Bytes::new(), false),
    ] {
        let answer = outcome.answer();
        assert_eq!(
            (answer.status, answer.content_type, answer.body, answer.ends_connection),
            (status, content_type, body, ends)
        );
    }
}

#[test]
fn nothing_is_posted_before_the_first_poll_is_answered() {
    let mut client = PollingClient::new();
    client.send(b"handshake").unwrap();
    assert_eq!(requests(&mut client), [Request::Poll]);
    client.poll_answered(200, Bytes::new());
    assert_eq!(requests(&mut client), [Request::Post(Bytes::from_static(b"handshake")), Request::Poll]);
}

#[test]
fn one_post_is_under_way_and_the_rest_goes_together() {
    let mut client = opened();
    client.send(b"a").unwrap();
    assert_eq!(requests(&mut client), [Request::Post(Bytes::from_static(b"a")), Request::Poll]);
    client.send(b"b").unwrap();
    client.send(b"c").unwrap();
    assert_eq!(requests(&mut client), []);
    assert_eq!(client.queued_bytes(), 2);
    client.post_answered(200);
    assert_eq!(requests(&mut client), [Request::Post(Bytes::from_static(b"bc"))]);
}

#[test]
fn polls_follow_one_another() {
    let mut client = opened();
    for (status, body) in [(200, "x"), (200, ""), (200, "y")] {
        assert_eq!(requests(&mut client), [Request::Poll]);
        client.poll_answered(status, Bytes::from(body));
    }
    assert_eq!(
        events(&mut client),
        [Event::Received(Bytes::from_static(b"x")), Event::Received(Bytes::from_static(b"y"))]
    );
    assert_eq!(requests(&mut client), [Request::Poll]);
    client.poll_timed_out();
    assert_eq!(requests(&mut client), [Request::Poll]);
    client.poll_answered(204, Bytes::new());
    assert_eq!(events(&mut client), [Event::Ended(End::Server)]);
    assert!(client.is_ended());
    assert_eq!(requests(&mut client), []);
}

#[test]
fn refusals_end_the_connection() {
    let mut client = PollingClient::new();
    requests(&mut client);
    client.poll_answered(404, Bytes::from_static(b"No Connection with that ID"));
    assert_eq!(events(&mut client), [Event::Ended(End::PollRefused { status: 404 })]);

    let mut client = opened();
    client.send(b"a").unwrap();
    requests(&mut client);
    client.post_answered(404);
    client.poll_answered(404, Bytes::new());
    client.request_failed();
    assert_eq!(events(&mut client), [Event::Ended(End::PostRefused { status: 404 })]);
    assert_eq!(requests(&mut client), []);
}

#[test]
fn stopping_posts_what_is_queued_and_then_deletes() {
    let mut client = opened();
    requests(&mut client);
    client.send(b"close").unwrap();
    client.stop();
    client.send(b"ignored").unwrap();
    assert_eq!(requests(&mut client), [Request::Post(Bytes::from_static(b"close"))]);
    client.post_answered(200);
    assert_eq!(requests(&mut client), [Request::Delete]);
    client.poll_answered(204, Bytes::new());
    assert!(!client.is_ended(), "the DELETE is still to be answered");
    client.delete_answered();
    assert_eq!(events(&mut client), [Event::Ended(End::Stopped)]);
}

#[test]
fn stopping_before_the_first_answer_deletes_too() {
    let mut client = PollingClient::new();
    requests(&mut client);
    client.stop();
    assert_eq!(requests(&mut client), [Request::Delete]);
    client.delete_answered();
    assert_eq!(events(&mut client), [Event::Ended(End::Stopped)]);
}

#[test]
fn the_queue_is_bounded() {
    let mut client = opened();
    client.send(&vec![0; POST_QUEUE_BYTES_MAX]).unwrap();
    assert_eq!(client.send(b"x"), Err(QueueFull));
    requests(&mut client);
    client.send(&vec![0; POST_QUEUE_BYTES_MAX + 1]).expect("an empty queue takes any piece");
}
