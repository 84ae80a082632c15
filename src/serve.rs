//! `hubgate serve`: reads the configuration, runs the gateway, obeys signals.

use std::process::ExitCode;
use std::sync::Arc;

use hubgate_gateway::Gateway;
use hubgate_gateway::config::{Config, Environment, Error};
use hubgate_gateway::notify::{State, notify};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{EXIT_INTERNAL, ServeArgs, complain};

/// Reads what the arguments name.
pub(crate) fn read(args: &ServeArgs) -> Result<Config, Error> {
    let environment = Environment::process();
    match &args.config {
        Some(file) => Config::load(file, &environment),
        None => Config::quick(&args.listen, &args.backend, args.admin, &environment),
    }
}

/// Serves until told to stop: SIGTERM and SIGINT drain, a second one ends at once, SIGHUP reads the file again.
pub(crate) async fn serve(args: &ServeArgs, config: Arc<Config>) -> ExitCode {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        eprintln!("error: cannot listen for signals");
        return ExitCode::from(EXIT_INTERNAL);
    };
    let gateway = match Gateway::start(config).await {
        Ok(gateway) => gateway,
        Err(error) => return complain(&error),
    };
    for url in gateway.urls() {
        eprintln!("listening on {url}");
    }
    if let Some(admin) = gateway.admin_address() {
        eprintln!("admin on http://{admin}");
    }
    notify(State::Ready);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(args, &gateway).await,
        }
    }
    notify(State::Stopping);
    tracing::info!("stopping: connections are told to reconnect elsewhere");
    tokio::select! {
        () = gateway.stop() => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::SUCCESS,
        _ = interrupt.recv() => ExitCode::SUCCESS,
    }
}

async fn reload(args: &ServeArgs, gateway: &Gateway) {
    notify(State::Reloading);
    let config = match read(args) {
        Ok(config) => config,
        Err(error) => {
            gateway.reload_refused();
            notify(State::Ready);
            return tracing::error!("the configuration was not reloaded, the old one stays: {error}");
        }
    };
    let reloaded = gateway.reload(Arc::new(config)).await;
    notify(State::Ready);
    match reloaded {
        Ok(changes) => {
            tracing::info!(applied = changes.applied.join(", "), "configuration reloaded");
            if !changes.needs_restart.is_empty() {
                tracing::warn!(settings = changes.needs_restart.join(", "), "these changes need a restart");
            }
        }
        Err(error) => tracing::error!("the configuration was not reloaded, the old one stays: {error}"),
    }
}

/// Resolves at SIGTERM or SIGINT.
pub(crate) async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
