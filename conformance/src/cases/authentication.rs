//! Group Q: authentication (`signalr-wire` §14).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::cases;
use super::long_polling::USER_CHANGED;
use crate::expected::Expected;
use crate::failure::{Outcome, Step, mismatch, same};
use crate::jwt;
use crate::link::{CLOSED_FOR_NOW, Link, TRANSPORTS, Transport};
use crate::runner::Run::{Quick, Waits};
use crate::target::{Place, Target};
use crate::wire::http::Request;
use crate::wire::hub;

cases! {
    "AU-03" Quick => au_03_without_a_user;
    "AU-04" Quick => au_04_web_socket_without_a_user;
    "AU-11" Quick => au_11_resume_by_another_user;
    "AU-12" Quick => au_12_user_of_the_first_transport_request;
    "AU-13" Waits(20) => au_13_ticket_expires;
    "AU-14" Waits(15) => au_14_renewed_or_never_ended;
    "AU-15" Quick => au_15_access_token_parameter;
    "AU-16" Quick => au_16_post_and_delete_by_another_user;
    "AU-17" Quick => au_17_cookies_with_attributes;
}

fn unauthorized() -> Expected {
    Expected::bare(401).header("www-authenticate", "Bearer")
}

async fn au_03_without_a_user(t: &Target) -> Outcome {
    for path in ["/contract-auth", "/contract-admin"] {
        let place = Place::from(path);
        let negotiate = format!("{path}/negotiate");
        for request in [
            place.negotiate("negotiateVersion=1"),
            place.poll("unknown"),
            place.events("unknown"),
            place.post("unknown", "x"),
            place.delete("unknown"),
            Request::new("GET", path),
            Request::new("PUT", path),
            Request::new("OPTIONS", path),
            Request::new("OPTIONS", &negotiate),
            Request::new("GET", &negotiate),
        ] {
            let what = format!("{} {}", request.method, request.target);
            unauthorized().check(t, &what, &t.exchange(&request).await?)?;
        }
    }
    let asked = Place::from("/contract-cookieauth").negotiate("negotiateVersion=1");
    let login =
        |query: &str| format!("http://{}/Account/Login?ReturnUrl=%2Fcontract-cookieauth%2Fnegotiate{query}", t.address);
    let location = login("%3FnegotiateVersion%3D1");
    let plain = t.exchange(&asked).await?;
    let status = if t.version == 8 { 302 } else { 401 };
    Expected::bare(status).header("location", &location).check(t, "cookie scheme", &plain)?;
    let script = asked.header("X-Requested-With", "XMLHttpRequest");
    Expected::bare(401).header("location", &location).check(t, "cookie scheme, script", &t.exchange(&script).await?)
}

async fn au_04_web_socket_without_a_user(t: &Target) -> Outcome {
    let refused = |place: &Place| place.upgrade_alone();
    let auth = Place::from("/contract-auth");
    unauthorized().check(t, "no token", &t.refused_upgrade(&refused(&auth)).await?)?;
    let bad = Expected::bare(401).header("www-authenticate", "Bearer error=\"invalid_token\"");
    bad.check(t, "bad token", &t.refused_upgrade(&refused(&auth.clone().bearer("a.b.c"))).await?)?;
    let admin = Place::from("/contract-admin");
    let wrong = refused(&admin.clone().bearer(&jwt::of("alice")));
    Expected::bare(403).check(t, "without the role", &t.refused_upgrade(&wrong).await?)?;
    let mut link = Link::socket(t, admin.bearer(&jwt::admin("root"))).await?;
    same("with the role", json!("root"), link.call("User", json!([])).await?)?;
    let mut link = Link::socket(t, auth.bearer(&jwt::of("alice"))).await?;
    same("with a token", json!("alice"), link.call("User", json!([])).await?)
}

async fn au_11_resume_by_another_user(t: &Target) -> Outcome {
    let place = Place::from("/contract-stateful");
    for other in ["alice", "bob"] {
        let own = place.clone().bearer(&jwt::of("alice"));
        let negotiated = t.negotiate_with(&own, "negotiateVersion=1&useStatefulReconnect=true").await?;
        same("granted", Some(true), negotiated.answer.get("useStatefulReconnect").and_then(Value::as_bool))?;
        let mut link = Link::attach(t, Transport::WebSockets, &own, &negotiated).await?;
        link.say(&hub::handshake("json", 2)).await?;
        link.hears("handshake", &["{}"]).await?;
        same("first socket", json!("x"), link.call("Echo", json!(["x"])).await?)?;
        link.reset();
        let again = place.clone().bearer(&jwt::of(other));
        if t.gateway && other != "alice" {
            // A gateway refuses another user before it touches the connection (rule A7).
            let refused = t.refused_upgrade(&again.upgrade(&negotiated.token)).await?;
            same("another user", (403, USER_CHANGED.to_owned()), (refused.head.status, refused.text()))?;
            continue;
        }
        let mut resumed = Link::attach(t, Transport::WebSockets, &again, &negotiated).await?;
        resumed.say("{\"type\":9,\"sequenceId\":2}\u{1e}").await?;
        resumed.say(&hub::invocation("user", "User", &json!([]))).await?;
        let sent_again = hub::completion("call1", &json!("x"));
        let user = hub::completion("user", &json!("alice"));
        resumed.hears(&format!("{other} resumes"), &[r#"{"type":9,"sequenceId":1}"#, &sent_again, &user]).await?;
    }
    Ok(())
}

async fn au_12_user_of_the_first_transport_request(t: &Target) -> Outcome {
    let as_user = |user: &str| Place::from("/contract").bearer(&jwt::of(user));
    for transport in TRANSPORTS {
        let negotiated = t.negotiate(as_user("alice")).await?;
        let mut link = Link::attach(t, transport, &as_user("bob"), &negotiated).await?;
        link.shake_hands().await?;
        same(format!("{transport:?}"), json!("bob"), link.call("User", json!([])).await?)?;
        if transport == Transport::LongPolling && !t.gateway {
            // A gateway refuses the third user: LP-26.
            link.place = as_user("carol");
            same("polls by a third", json!("bob"), link.call("User", json!([])).await?)?;
        }
    }
    Ok(())
}

fn expiring(user: &str) -> Place {
    Place::from("/contract-authexpiry").bearer(&jwt::expiring(user, Duration::from_secs(6)))
}

async fn au_13_ticket_expires(t: &Target) -> Outcome {
    let on = async |transport: Transport| -> Outcome {
        let mut link = Link::start(t, transport, expiring("alice")).await?;
        link.hears(&format!("{transport:?}"), &[CLOSED_FOR_NOW]).await?;
        link.ends(&format!("{transport:?}")).await
    };
    let between = async {
        let mut link = Link::start(t, Transport::LongPolling, expiring("alice")).await?;
        sleep(Duration::from_secs(8)).await;
        // The expired token opens nothing any more at an endpoint that asks for one; this one asks for none.
        link.hears("between polls", &[CLOSED_FOR_NOW, "204"]).await
    };
    tokio::try_join!(futures_util::future::try_join_all(TRANSPORTS.map(on)), between).map(drop)
}

async fn au_14_renewed_or_never_ended(t: &Target) -> Outcome {
    let renewed = async {
        let mut link = Link::start(t, Transport::LongPolling, expiring("alice")).await?;
        link.place = Place::from("/contract-authexpiry").bearer(&jwt::of("alice"));
        if t.gateway {
            // The hub sees one WebSocket, whose ticket no later request can renew; the client is asked to come back.
            return link.hears("poll with a later expiry", &[CLOSED_FOR_NOW]).await;
        }
        link.hears_nothing("poll with a later expiry", Duration::from_secs(9)).await?;
        link.works("renewed").await
    };
    let lives = async |what: &'static str, place: Place| -> Outcome {
        let mut link = Link::socket(t, place).await?;
        link.hears_nothing(what, Duration::from_secs(9)).await?;
        link.works(what).await
    };
    let off = Place::from("/contract").bearer(&jwt::expiring("alice", Duration::from_secs(6)));
    tokio::try_join!(renewed, lives("no ticket", "/contract-authexpiry".into()), lives("option off", off)).map(drop)
}

async fn au_15_access_token_parameter(t: &Target) -> Outcome {
    // Written with escapes, so that a server that does not undo them fails.
    let token = jwt::of("al ice").replace('.', "%2E");
    let place = Place::from("/contract-auth").query(&format!("access_token={token}"));
    for transport in TRANSPORTS {
        let mut link = Link::start(t, transport, &place).await.step(format!("{transport:?}"))?;
        same(format!("{transport:?}"), json!("al ice"), link.call("User", json!([])).await?)?;
    }
    for place in [
        Place::from("/contract-auth").query("access_token="),
        Place::from("/contract-auth").bearer(""),
        Place::from("/contract-auth").header("Authorization", ""),
    ] {
        let answer = t.exchange(&place.negotiate("negotiateVersion=1")).await?;
        unauthorized().check(t, "no token", &answer)?;
    }
    Ok(())
}

async fn au_16_post_and_delete_by_another_user(t: &Target) -> Outcome {
    let as_user = |user: &str| Place::from("/contract-auth").bearer(&jwt::of(user));
    let (own, foreign) = (as_user("alice"), as_user("bob"));
    let mut link = Link::start(t, Transport::LongPolling, &own).await?;
    let post = foreign.post(&link.token, hub::invocation("1", "User", &json!([])));
    let delete = foreign.delete(&link.token);
    if t.gateway {
        let refused = Expected::text(403, USER_CHANGED);
        refused.check(t, "POST", &t.exchange(&post).await?)?;
        refused.check(t, "DELETE", &t.exchange(&delete).await?)?;
        link.hears_nothing("the call had no effect", t.moment()).await?;
        return link.works("unharmed").await;
    }
    Expected::empty(200).check(t, "POST", &t.exchange(&post).await?)?;
    link.hears("the call ran as the first user", &[&hub::completion("1", &json!("alice"))]).await?;
    let nobody = Place::from("/contract-auth").post(&link.token, "x");
    unauthorized().check(t, "POST by nobody", &t.exchange(&nobody).await?)?;
    Expected::empty(202).check(t, "DELETE", &t.exchange(&delete).await?)
}

async fn au_17_cookies_with_attributes(t: &Target) -> Outcome {
    let signed_in = t.exchange(&Request::new("GET", "/cookie-signin?user=alice")).await?;
    let cookie = signed_in.head.header("set-cookie").and_then(|value| value.split(';').next().map(str::to_owned));
    let Some(cookie) = cookie else { return mismatch("sign-in", "a cookie", signed_in.brief()) };
    let header = format!("sticky=abc; Path=/; HttpOnly; {cookie}; Path=/; SameSite=Lax");
    let place = Place::from("/contract-cookieauth").header("Cookie", &header);
    for transport in TRANSPORTS {
        let mut link = Link::start(t, transport, &place).await.step(format!("{transport:?}"))?;
        same(format!("{transport:?}"), json!("alice"), link.call("User", json!([])).await?)?;
    }
    Ok(())
}
