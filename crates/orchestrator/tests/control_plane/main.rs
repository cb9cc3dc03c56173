//! The orchestrator through its own doors: the router, the contract's client, sockets.

mod approvals;
mod doors;
mod feed;
mod pages;
mod plane;
mod policy_folder;
mod websocket;
