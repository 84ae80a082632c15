//! Reaching the hub of a negotiated connection: over WebSockets, else over long polling (rules D2, D4, D5).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};

use crate::answer;
use crate::backend::{Backend, Failed, HubHttp, Reply};
use crate::body::Body;
use crate::forward::{Agreed, agree, failure, upgrade_request};
use crate::outbound;
use crate::polling;
use crate::query::Query;
use crate::table::Waiting;
use crate::visit::{Visit, wants_event_stream};

/// Opens the hub's WebSocket over the connection that carried the negotiate, or another one to the same backend
/// (rules D2, D4).
pub(crate) async fn connect(
    visit: &Visit,
    mut waiting: Waiting,
    mut request: Request<Body>,
    key: &HeaderValue,
    to_http2: bool,
) -> Result<(Waiting, Agreed), Box<Response<Body>>> {
    let raw_query = request.uri().query().unwrap_or_default().to_owned();
    let query = Query::new(&raw_query).edited(&[
        ("id", Some(waiting.hub_token.expose())),
        ("useStatefulReconnect", None),
        ("webTransport", None),
    ]);
    let event_stream = wants_event_stream(request.headers());
    upgrade_request(visit, &mut request, &query, key, true);
    if let Some(elsewhere) = &waiting.elsewhere {
        elsewhere.readdress(&mut request, &waiting.hub_token);
    }
    waiting.cookies.add_to(request.headers_mut());
    let mut backend = Arc::clone(waiting.share.backend());
    if visit.gate.ignore_token_backend
        && let Some(any) = visit.route.pool.as_ref().and_then(|pool| pool.choose(&[], visit.gate.chance()))
    {
        waiting.held = None;
        backend = any;
    }
    if let Some(pool) = &visit.route.pool {
        outbound::address(pool, &backend, &mut request);
    }
    let held = waiting.held.take().map(|(http, _)| http);
    if !waiting.hub_has_web_sockets {
        let agreed = connect_over_polls(visit, &backend, held, request, key, to_http2).await?;
        return Ok((waiting, agreed.transcoded(visit)));
    }
    match send(&backend, held, Box::new(request)).await {
        Ok(reply) => {
            match agree(visit, &backend, reply, key.as_bytes(), to_http2).await {
                Ok(agreed) => Ok((waiting, agreed.transcoded(visit))),
                // Clients in Node repeat an event stream that is refused with 5xx for ever (rule B8).
                Err(refusal) if event_stream && refusal.status().is_server_error() => {
                    Err(Box::new(answer::no_connection()))
                }
                Err(refusal) => Err(refusal),
            }
        }
        Err(Failed::Unsent(_, error) | Failed::Sent(error)) => Err(Box::new(failure(visit, &error, event_stream))),
    }
}

/// Reaches a hub that offers no WebSockets over long polling (rule D5).
async fn connect_over_polls(
    visit: &Visit,
    backend: &Arc<Backend>,
    held: Option<HubHttp>,
    request: Request<Body>,
    key: &HeaderValue,
    to_http2: bool,
) -> Result<Agreed, Box<Response<Body>>> {
    let config = &visit.live.config;
    let bounds = polling::Bounds {
        client_message_bytes_max: config.limits.client_message_bytes_max,
        hub_message_bytes_max: config.limits.hub_message_bytes_max,
        hub_ping_interval: config.timeouts.hub_ping_interval,
    };
    match polling::connect(backend, held, request, bounds).await {
        Ok(Ok(hub)) => Ok(Agreed { response: polling::switching(key, to_http2), hub: (hub, Bytes::new()) }),
        Ok(Err(mut refusal)) => {
            outbound::finish(visit, backend, &mut refusal);
            Err(Box::new(refusal))
        }
        Err(error) => Err(Box::new(failure(visit, &error, true))),
    }
}

async fn send(backend: &Arc<Backend>, held: Option<HubHttp>, request: Box<Request<Body>>) -> Result<Reply, Failed> {
    let mut request = request;
    if let Some(mut held) = held.filter(|held| !held.is_closed()) {
        match held.ask(request, backend.terms()).await {
            Ok(reply) => return Ok(reply),
            Err(Failed::Unsent(unsent, _)) => request = unsent,
            Err(sent) => return Err(sent),
        }
    }
    match backend.fresh_http().await {
        Ok(mut fresh) => fresh.ask(request, backend.terms()).await,
        Err(error) => Err(Failed::Unsent(request, error.into())),
    }
}
