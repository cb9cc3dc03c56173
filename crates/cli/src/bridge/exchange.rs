//! Messages to the gateway, and what comes of them.

use std::{sync::Arc, time::Duration};

use handlers::jsonrpc;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Bridge, LINGER, MAX_MESSAGE_BYTES, headers::headers, stream::Stream};

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// Between two attempts to go on with a stream, unless the server says otherwise.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How often a stream that brings nothing new is taken up again before the bridge gives up.
const MAX_RESUMES: u32 = 20;

/// Ours, as the gateway's: the credential is missing or unknown.
const UNAUTHENTICATED: i32 = 40101;
/// Ours, as the gateway's: it cannot be reached, or does not answer as it should.
const UNAVAILABLE: i32 = 50301;

/// The way to one door of the gateway.
pub(crate) struct Way {
    http: reqwest::Client,
    url: String,
    common: HeaderMap,
}

impl Way {
    /// To the door at `url`, as the agent that holds this token.
    ///
    /// # Errors
    ///
    /// When the token cannot be sent.
    pub(crate) fn new(url: String, token: Option<&SecretString>) -> anyhow::Result<Self> {
        let mut common = HeaderMap::new();
        if let Some(token) = token {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
                .map_err(|_| anyhow::anyhow!("the agent's token has characters that none has"))?;
            bearer.set_sensitive(true);
            common.insert(header::AUTHORIZATION, bearer);
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("cedargate-bridge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, url, common })
    }

    async fn post(
        &self,
        message: &[u8],
        more: HeaderMap,
    ) -> Result<reqwest::Response, reqwest::Error> {
        self.http
            .post(&self.url)
            .headers(self.common.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .headers(more)
            .body(message.to_vec())
            .send()
            .await
    }

    async fn get(
        &self,
        more: HeaderMap,
        after: Option<&str>,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let mut request = self
            .http
            .get(&self.url)
            .headers(self.common.clone())
            .header(header::ACCEPT, "text/event-stream")
            .headers(more);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        request.send().await
    }
}

/// What of an answer the bridge must know.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

impl Bridge {
    /// Sends a request, and says everything that comes of it.
    pub(super) async fn request(self: &Arc<Self>, message: &[u8], id: &str) {
        let Ok(scanned) = jsonrpc::scan(message) else {
            return;
        };
        let method = scanned.method().unwrap_or_default().to_owned();
        let opens = method == "initialize";
        let mut again = !opens;
        loop {
            let more = if opens {
                HeaderMap::new()
            } else {
                self.headers(&scanned)
            };
            let session = more.get(SESSION).cloned();
            let response = match self.way.post(message, more).await {
                Ok(response) => response,
                Err(error) => return self.say_error(id, UNAVAILABLE, &unreachable(&error)).await,
            };
            // The gateway or the server forgot the session: open another, once.
            if response.status() == StatusCode::NOT_FOUND && again && session.is_some() {
                again = false;
                if self.reopen(session.as_ref()).await {
                    continue;
                }
            }
            if opens && response.status().is_success() {
                self.opened(message, &response);
            }
            return self.answer(response, &method, id).await;
        }
    }

    /// Sends what wants no answer.
    pub(super) async fn notify(&self, message: &[u8]) {
        let Ok(scanned) = jsonrpc::scan(message) else {
            return;
        };
        let more = self.headers(&scanned);
        // There is nobody to tell: what is notified needs no answer.
        let _ = tokio::time::timeout(RETRY * 10, self.way.post(message, more)).await;
    }

    /// Listens to what the server says by itself, if it does.
    pub(super) fn listen(self: &Arc<Self>) {
        let bridge = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let mut after: Option<String> = None;
            loop {
                let Some(bridge) = bridge.upgrade() else {
                    return;
                };
                let more = bridge.session();
                let Ok(response) = bridge.way.get(more, after.as_deref()).await else {
                    return;
                };
                if !is_events(&response) {
                    return;
                }
                let mut stream = Stream::new(response);
                while let Some(message) = stream.next().await {
                    bridge.say(&message).await;
                }
                drop(bridge);
                after = stream.last_id.or(after);
                tokio::time::sleep(stream.retry.unwrap_or(RETRY).min(MAX_RETRY)).await;
            }
        });
        if let Some(before) = self.state().listening.replace(task.abort_handle()) {
            before.abort();
        }
    }

    /// Ends the session.
    pub(super) async fn close(&self) {
        if let Some(listening) = self.state().listening.take() {
            listening.abort();
        }
        let more = self.session();
        if more.contains_key(SESSION) {
            let request = self
                .way
                .http
                .delete(&self.way.url)
                .headers(self.way.common.clone())
                .headers(more);
            // It ends by itself, too, only later.
            let _ = tokio::time::timeout(LINGER, request.send()).await;
        }
    }

    fn headers(&self, message: &jsonrpc::Message<'_>) -> HeaderMap {
        let state = self.state();
        let mut more = headers(message, &state.mirrored);
        if !more.contains_key(VERSION) {
            drop(state);
            more.extend(self.session());
        }
        more
    }

    fn session(&self) -> HeaderMap {
        let state = self.state();
        let session = state.session.iter().map(|value| (SESSION, value));
        let version = state.version.iter().map(|value| (VERSION, value));
        session
            .chain(version)
            .map(|(name, value)| (http::HeaderName::from_static(name), value.clone()))
            .collect()
    }

    /// Remembers the session that this answer opens.
    fn opened(&self, message: &[u8], response: &reqwest::Response) {
        let mut state = self.state();
        state.opened_by = Some(message.to_vec());
        state.session = response.headers().get(SESSION).cloned();
        state.version = None;
    }

    /// Opens another session in place of `forgotten`, as the client opened the first.
    async fn reopen(self: &Arc<Self>, forgotten: Option<&HeaderValue>) -> bool {
        let _one = self.opening.lock().await;
        let opened_by = {
            let state = self.state();
            if state.session.as_ref() != forgotten {
                // Another request was faster.
                return true;
            }
            state.opened_by.clone()
        };
        let Some(message) = opened_by else {
            return false;
        };
        let Ok(response) = self.way.post(&message, HeaderMap::new()).await else {
            return false;
        };
        if !response.status().is_success() {
            return false;
        }
        self.opened(&message, &response);
        let answer = if is_events(&response) {
            Stream::new(response).next().await
        } else {
            collect(response).await
        };
        let Some(answer) = answer else { return false };
        self.learn("initialize", &answer);
        self.notify(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
        self.listen();
        true
    }

    async fn answer(&self, response: reqwest::Response, method: &str, id: &str) {
        let status = response.status();
        if status.is_success() && is_events(&response) {
            return self.events(response, method, id).await;
        }
        let body = collect(response).await.unwrap_or_default();
        if answers(&body, id) {
            self.learn(method, &body);
            return self.say(&body).await;
        }
        // An error that names no request is still the best explanation there is.
        let said = serde_json::from_slice::<Value>(&body).ok();
        let said = said
            .as_ref()
            .and_then(|body| body.pointer("/error/message")?.as_str());
        let (code, why) = match status {
            StatusCode::UNAUTHORIZED => (
                UNAUTHENTICATED,
                "the gateway does not know the token in CEDARGATE_AGENT_TOKEN".to_owned(),
            ),
            _ if status.is_success() => (UNAVAILABLE, "the gateway gave no answer".to_owned()),
            _ => (UNAVAILABLE, format!("the gateway answered {status}")),
        };
        let why = said.map_or(why.clone(), |said| format!("{why}: {said}"));
        self.say_error(id, code, &why).await;
    }

    /// Says the events of an answer, and comes back for what is missing when a stream
    /// breaks off, as servers of the older revisions may do on purpose.
    async fn events(&self, response: reqwest::Response, method: &str, id: &str) {
        let mut stream = Stream::new(response);
        let mut resumes = 0;
        loop {
            let mut any = false;
            while let Some(message) = stream.next().await {
                any = true;
                let last = answers(&message, id);
                if last {
                    self.learn(method, &message);
                }
                self.say(&message).await;
                if last {
                    return;
                }
            }
            resumes = if any { 0 } else { resumes + 1 };
            let session = self.session();
            let after = stream.last_id.take().filter(|_| !session.is_empty());
            let (Some(after), true) = (after, resumes < MAX_RESUMES) else {
                let why = "the connection to the gateway broke before the answer came; whether anything was done is not known";
                return self.say_error(id, UNAVAILABLE, why).await;
            };
            let retry = stream.retry;
            tokio::time::sleep(retry.unwrap_or(RETRY).min(MAX_RETRY)).await;
            match self.way.get(session, Some(&after)).await {
                Ok(response) if is_events(&response) => stream = Stream::new(response),
                Ok(response) => {
                    let why = format!(
                        "the gateway answered {} when the rest of an answer was fetched",
                        response.status()
                    );
                    return self.say_error(id, UNAVAILABLE, &why).await;
                }
                // Perhaps later: from the same place.
                Err(_) => {}
            }
            stream.last_id = stream.last_id.or(Some(after));
            stream.retry = stream.retry.or(retry);
        }
    }

    /// Keeps what later requests need to know.
    fn learn(&self, method: &str, answer: &[u8]) {
        let result = || -> Option<Value> {
            let answer: Answer<'_> = serde_json::from_slice(answer).ok()?;
            serde_json::from_str(answer.result?.get()).ok()
        };
        match method {
            "initialize" => {
                let version = result().and_then(|result| {
                    HeaderValue::from_str(result.get("protocolVersion")?.as_str()?).ok()
                });
                self.state().version = version;
            }
            "tools/list" => {
                if let Some(result) = result() {
                    self.state().mirrored.learn(&result);
                }
            }
            _ => {}
        }
    }
}

/// Whether this message is the answer to the request with this id.
fn answers(message: &[u8], id: &str) -> bool {
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(message) else {
        return false;
    };
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    answer.method.is_none()
        && answer
            .id
            .is_some_and(|answered| value(answered.get()) == value(id))
}

fn is_events(response: &reqwest::Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    response.status().is_success()
        && kind
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"))
}

/// The whole body, unless it is too long or breaks off.
async fn collect(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.ok()? {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_MESSAGE_BYTES {
            return None;
        }
    }
    Some(body)
}

fn unreachable(error: &reqwest::Error) -> String {
    if error.is_connect() {
        "the gateway cannot be reached".to_owned()
    } else {
        "the connection to the gateway broke; whether anything was done is not known".to_owned()
    }
}
