//! Who may use a connection: its user, with credentials that the hub has admitted (rules A4, A5).

use std::sync::{Arc, MutexGuard};
use std::time::SystemTime;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::answer;
use crate::backend::{Backend, Failed};
use crate::body::Body;
use crate::forward::failure;
use crate::identity::{Admission, Credentials, Verdict};
use crate::outbound;
use crate::query::Query;
use crate::visit::Visit;

/// What a request shows of its user.
pub(crate) fn credentials<B>(visit: &Visit, request: &Request<B>) -> Credentials {
    let query = Query::new(request.uri().query().unwrap_or_default());
    visit.gate.fingerprints.credentials(request.headers(), query)
}

/// Refuses another user's request (rule A4), and has the hub look at credentials that it has not seen (rule A5);
/// `judge` is the backend to be asked, if any knows the client's credentials.
pub(crate) async fn admit<'a>(
    visit: &Visit,
    admission: impl Fn() -> MutexGuard<'a, Admission>,
    judge: Option<&Arc<Backend>>,
    credentials: &Credentials,
    request: &Request<Incoming>,
) -> Result<(), Response<Body>> {
    let verdict = admission().judge(credentials, SystemTime::now());
    match verdict {
        Verdict::Known => Ok(()),
        Verdict::AnotherUser => Err(answer::text(StatusCode::FORBIDDEN, answer::USER_CHANGED)),
        Verdict::AskHub => {
            let Some(backend) = judge else { return Ok(()) };
            let (head, ()) = copy_head(request).into_parts();
            let mut question = Request::from_parts(head, Body::Empty);
            // A POST without `id` opens nothing: it is refused by the hub's authorisation or for want of an id.
            *question.method_mut() = Method::POST;
            question.headers_mut().remove(http::header::CONTENT_LENGTH);
            question.headers_mut().remove(http::header::TRANSFER_ENCODING);
            let raw_query = request.uri().query().unwrap_or_default();
            let query = Query::new(raw_query).edited(&[("id", None)]);
            outbound::prepare(visit, &mut question, &query);
            if let Some(pool) = &visit.route.pool {
                outbound::address(pool, backend, &mut question);
            }
            match backend.exchange(Box::new(question)).await {
                Ok((response, connection)) => {
                    backend.keep_after(connection, response.headers());
                    let status = response.status();
                    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
                        let mut response = response.map(Body::Stream);
                        outbound::finish(visit, backend, &mut response);
                        return Err(response);
                    }
                    let memory = visit.live.config.timeouts.credentials_memory;
                    admission().remember(credentials, SystemTime::now(), memory);
                    Ok(())
                }
                Err(Failed::Unsent(_, error) | Failed::Sent(error)) => Err(failure(visit, &error, true)),
            }
        }
    }
}

fn copy_head(request: &Request<Incoming>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
