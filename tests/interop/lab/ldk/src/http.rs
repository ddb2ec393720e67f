//! As much HTTP as a driver on the same machine needs: one JSON request and answer a connection.

use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const MAX_HEAD: u64 = 16 * 1024;
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Why a request failed: a sentence for the driver (status 400).
pub type Failure = String;

pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Value,
}

/// Reads one request. The outer error is the connection's, the inner one the driver's to hear of.
pub async fn read_request(stream: &mut TcpStream) -> std::io::Result<Result<Request, Failure>> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    let mut limited = (&mut reader).take(MAX_HEAD);
    loop {
        let line_start = head.len();
        if limited.read_until(b'\n', &mut head).await? == 0 {
            return Ok(Err(
                "the head of the request is cut short or too long".into()
            ));
        }
        if matches!(&head[line_start..], b"\r\n" | b"\n") {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(Err("no request line".into()));
    };
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Some(0), |(_, value)| value.trim().parse().ok());
    let Some(length @ 0..=MAX_BODY) = length else {
        return Ok(Err(format!(
            "content-length must be a number up to {MAX_BODY}"
        )));
    };
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    let body = match body.is_empty() {
        true => json!({}),
        false => match serde_json::from_slice(&body) {
            Ok(value) => value,
            Err(error) => return Ok(Err(format!("the body is no JSON: {error}"))),
        },
    };
    Ok(Ok(Request {
        method: method.into(),
        path: path.into(),
        body,
    }))
}

pub async fn write_answer(
    stream: &mut TcpStream,
    answer: Result<Value, Failure>,
) -> std::io::Result<()> {
    let (status, body) = match answer {
        Ok(value) => ("200 OK", value),
        Err(message) => ("400 Bad Request", json!({"error": message})),
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
