//! The rows of the case list, one module for each group, one async function for each row.
//!
//! A case talks to a [`crate::target::Target`] and returns what it saw if that is not what must be observed. Cases
//! share no state: each negotiates its own connections, so they run at the same time.

pub mod authentication;
pub mod handshake;
pub mod keep_alive_close;
pub mod long_polling;
pub mod negotiate;
pub mod post;
pub mod routing;
pub mod server_sent_events;
pub mod web_sockets;

use crate::runner::Case;

/// Makes a table of cases: id, function, and when it runs.
macro_rules! cases {
    ($($id:literal $run:expr => $function:ident;)*) => {
        /// The cases of this group.
        pub const CASES: &[crate::runner::Case] = &[$(crate::runner::Case {
            id: $id,
            name: stringify!($function),
            run: $run,
            function: |target| Box::pin(async move { $function(&target).await }),
        },)*];
    };
}
pub(crate) use cases;

/// All cases in the order of the list.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        negotiate::CASES,
        routing::CASES,
        web_sockets::CASES,
        web_sockets::frames::CASES,
        web_sockets::closing::CASES,
        server_sent_events::CASES,
        post::CASES,
        long_polling::CASES,
        handshake::CASES,
        keep_alive_close::CASES,
        authentication::CASES,
    ]
    .concat()
}
