//! An in-memory DynamoDB server for tests and benches: `wafer-local-dynamodb [PORT]`.
//!
//! Listens on 127.0.0.1 until it is killed, and prints its URL when it is ready. Without a port, or
//! with port 0, it uses a free one.

#![allow(clippy::print_stdout, reason = "prints its URL when it is ready")]

use std::net::{Ipv4Addr, SocketAddr};

use dynoxide::Database;

#[tokio::main]
async fn main() -> Result<(), String> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "0".to_owned());
    let port: u16 = port
        .parse()
        .map_err(|_| format!("`{port}` is not a port number"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|e| format!("cannot listen on {address}: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let database = Database::memory().map_err(|e| e.to_string())?;
    println!("http://{address}");
    dynoxide::server::serve_on(listener, database).await;
    Ok(())
}
