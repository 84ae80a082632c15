//! The gateway that stands between SignalR clients and hub backends
