//! The order service of the demo: slow, and unaware of the gateway in front of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::hyper_timer::HyperTimer;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// How long it thinks about an order: long enough that a client notices.
const THINKING: Duration = Duration::from_millis(1_500);

/// The service; clones share their orders.
#[derive(Clone)]
struct OrderService {
    clock: Clock,
    made: Arc<Mutex<Vec<Value>>>,
}

/// It answers nothing: the connection is dropped with the request read.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped without an answer")]
struct DroppedConnection;

/// Starts it; it goes on until `tasks` are cut.
pub(super) async fn start(
    clock: Clock,
    tasks: &Tasks,
    address: SocketAddr,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let orders = OrderService { clock, made: Arc::default() };
    let connections = tasks.clone();
    tasks.spawn_until_cut(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn_until_cut(orders.clone().serve(stream));
        }
    });
    Ok(address)
}

impl OrderService {
    async fn serve(self, stream: TcpStream) {
        let answer = service_fn(|request| self.answer(request));
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(HyperTimer(self.clock.clone()));
        // Its clients see for themselves how a connection ended.
        let _ = server.serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, DroppedConnection> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| DroppedConnection)?.to_bytes();
        match (&head.method, head.uri.path()) {
            (&Method::POST, "/orders") => Ok(self.create(&body).await),
            (&Method::POST, "/payments") => Err(DroppedConnection),
            (&Method::GET, path) => Ok(self.show(path)),
            _ => Ok(json_answer(StatusCode::NOT_FOUND, &json!({ "says": "nothing is here" }))),
        }
    }

    async fn create(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let Ok(Value::Object(mut order)) = serde_json::from_slice(body) else {
            let says = json!({ "says": "an order is a JSON object, like {\"sku\":\"A-1\"}" });
            return json_answer(StatusCode::BAD_REQUEST, &says);
        };
        self.clock.sleep(THINKING).await;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let number = made.len() + 1;
        order.insert("order".to_owned(), number.into());
        order.insert("state".to_owned(), "packed".into());
        let order = Value::Object(order);
        made.push(order.clone());
        let mut answer = json_answer(StatusCode::CREATED, &order);
        if let Ok(location) = format!("/orders/{number}").parse() {
            answer.headers_mut().insert(LOCATION, location);
        }
        answer
    }

    fn show(&self, path: &str) -> Response<Full<Bytes>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let number = path.strip_prefix("/orders/").and_then(|number| number.parse::<usize>().ok());
        match number.and_then(|number| made.get(number.checked_sub(1)?)) {
            Some(order) => json_answer(StatusCode::OK, order),
            None => json_answer(StatusCode::NOT_FOUND, &json!({ "says": "no such order" })),
        }
    }
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{value}\n"))));
    *answer.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::http::{HttpClient, HttpError};
    use cloakroom_domain::Timestamp;

    async fn asked(
        at: SocketAddr,
        method: &str,
        path: &str,
        body: &'static str,
    ) -> Result<Response<Bytes>, HttpError> {
        let request = Request::builder().method(method).uri(format!("http://{at}{path}"));
        let request = request.body(Bytes::from_static(body.as_bytes())).unwrap();
        HttpClient::new(Clock::system())?.send(Duration::from_secs(5), request).await
    }

    #[tokio::test]
    async fn an_order_is_thought_about_and_can_then_be_fetched() {
        let (clock, tasks) = (Clock::manual(Timestamp::EPOCH), Tasks::new());
        let at = start(clock.clone(), &tasks, crate::cli::demo::ANYWHERE).await.unwrap();
        let created = tasks.spawn(asked(at, "POST", "/orders", "{\"sku\":\"A-1\"}"));
        while !created.is_finished() {
            clock.advance(THINKING);
            tokio::task::yield_now().await;
        }
        let created = created.await.unwrap().unwrap();
        assert_eq!(created.status(), 201);
        assert_eq!(created.headers()[LOCATION], "/orders/1");
        let order = asked(at, "GET", "/orders/1", "").await.unwrap();
        assert_eq!(order.body(), created.body());
        assert_eq!(asked(at, "GET", "/orders/2", "").await.unwrap().status(), 404);
        assert_eq!(asked(at, "POST", "/orders", "no order").await.unwrap().status(), 400);
        tasks.cut();
    }

    #[tokio::test]
    async fn a_payment_is_read_and_never_answered() {
        let tasks = Tasks::new();
        let at = start(Clock::manual(Timestamp::EPOCH), &tasks, crate::cli::demo::ANYWHERE)
            .await
            .unwrap();
        let answer = asked(at, "POST", "/payments", "{}").await;
        assert!(matches!(answer, Err(HttpError::Broken(_))), "{answer:?}");
        tasks.cut();
    }
}
