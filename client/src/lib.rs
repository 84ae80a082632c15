//! A SignalR client over WebSockets, Server-Sent Events and long polling
