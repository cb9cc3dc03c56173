//! Services of kind `s3`: objects in buckets, by the protocol of Amazon S3 that `MinIO`
//! and others speak.
//!
//! What agents can do is the same for each (`s3/commands.toml`). They reach the buckets that
//! an operator named and nothing else, in each what is below its prefix (`s3/key.rs`).
//! Requests are signed (`s3/sign.rs`), answers bounded and read with a real parser
//! (`s3/xml.rs`); redirects and proxies are not followed. An upload is never whole in memory
//! (`s3/upload.rs`).

mod failure;
mod key;
mod preview;
mod send;
mod settings;
mod sign;
mod types;
mod upload;
mod xml;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use authz::{AgentId, Clock, Command, ServiceName, Timestamp};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use self::{
    key::{Bucket, Object},
    send::{Answered, Call},
    settings::Ready,
    sign::Signed,
};
use crate::{
    Answer, Content, HandlerError,
    catalog::Condition,
    description::{Description, S3Table},
    http::resilience::Gate,
};

/// So many uploads of several parts at once: each holds one part in memory.
const MOST_UPLOADS: usize = 8;

/// Behind it in the order of keys there is nothing of a folder's.
const AFTER_FOLDER: char = '\u{10ffff}';

const METADATA: &str = "x-amz-meta-";

/// One service of kind `s3`.
#[derive(Debug)]
pub(crate) struct S3Service {
    name: ServiceName,
    client: reqwest::Client,
    timeout: Duration,
    max_answer_bytes: usize,
    max_result_bytes: usize,
    table: S3Table,
    gate: Arc<Gate>,
    uploads: Semaphore,
    /// Signatures have a time in them.
    clock: OnceLock<Clock>,
    /// What is needed to reach it, or what to set.
    ready: ArcSwap<Result<Arc<Ready>, String>>,
}

/// What a server says of an object.
#[derive(Debug)]
struct Stat {
    size: u64,
    last_modified: Option<String>,
    etag: Option<String>,
    content_type: Option<String>,
    metadata: Map<String, Value>,
}

impl S3Service {
    /// `timeout` is for descriptions that name none.
    pub(crate) fn new(
        description: &Description,
        client: reqwest::Client,
        timeout: Duration,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let table = description
            .s3
            .clone()
            .ok_or_else(|| "kind `s3` needs a table `[s3]`".to_owned())?;
        let ready = Ready::new(&table, variable).map(Arc::new);
        Ok(Self {
            name: description.name().clone(),
            client,
            timeout: description
                .timeout_ms
                .map_or(timeout, Duration::from_millis),
            max_answer_bytes: description.max_answer_bytes,
            max_result_bytes: description.max_result_bytes,
            gate: Gate::new(description.max_concurrent),
            uploads: Semaphore::new(MOST_UPLOADS),
            clock: OnceLock::new(),
            ready: ArcSwap::from_pointee(ready),
            table,
        })
    }

    /// The first clock stays.
    pub(crate) fn set_clock(&self, clock: &Clock) {
        let _ = self.clock.set(clock.clone());
    }

    fn now(&self) -> Result<Timestamp, HandlerError> {
        let clock = self.clock.get();
        clock
            .map(Clock::now)
            .ok_or_else(|| self.not_configured("nothing tells it the time"))
    }

    fn not_configured(&self, reason: &str) -> HandlerError {
        HandlerError::NotConfigured {
            service: self.name.to_string(),
            reason: reason.to_owned(),
        }
    }

    /// What to set, if it cannot be reached as it is.
    pub(crate) fn unavailable(&self) -> Option<String> {
        self.ready.load().as_ref().as_ref().err().cloned()
    }

    /// Reads address, keys and limits again. Commands under way keep what they have. Whether
    /// anything changed.
    pub(crate) fn refresh(&self, variable: &dyn Fn(&str) -> Option<String>) -> bool {
        let ready = Ready::new(&self.table, variable).map(Arc::new);
        let changed = **self.ready.load() != ready;
        if changed {
            self.ready.store(Arc::new(ready));
        }
        changed
    }

    /// How it is, and what is known of why.
    pub(crate) fn condition(&self) -> Condition {
        self.unavailable()
            .map_or_else(|| self.gate.condition(), Condition::unconfigured)
    }

    /// Whether a command may come with content.
    pub(crate) fn takes_content(command: &Command) -> bool {
        command.target.key.name.as_str() == "upload"
    }

    pub(crate) async fn carry_out(
        self: &Arc<Self>,
        agent: AgentId,
        command: &Command,
        content: Option<Content>,
    ) -> Result<Answer, HandlerError> {
        let ready = match self.ready.load().as_ref() {
            Ok(ready) => Arc::clone(ready),
            Err(reason) => return Err(self.not_configured(reason)),
        };
        let arguments = Arguments(command.arguments.values());
        let name = command.target.key.name.as_str();
        if content.is_some() && !Self::takes_content(command) {
            return Err(self.rejected(400, format!("`{name}` takes no content")));
        }
        let answer = match name {
            "list-buckets" => Ok(buckets(&ready)),
            "list" => self.list(&ready, arguments).await,
            "stat" => self.stat(&ready, arguments).await,
            "get-url" => self.url(&ready, arguments).await,
            "download" => self.download(&ready, arguments).await,
            "upload" => self.upload(&ready, agent, arguments, content).await,
            "delete" => self.delete(&ready, arguments).await,
            "health" => self.check(&ready).await,
            other => Err(self.failed(format!("kind `s3` has no command `{other}`"))),
        };
        answer.map(|data| Answer {
            data,
            untrusted: false,
        })
    }

    /// The setting that people look at when nothing answers.
    fn address(&self) -> String {
        let setting = &self.table.address;
        let name = setting.variable.as_deref().unwrap_or("address");
        format!("`{name}`")
    }

    fn bucket<'a>(
        &self,
        ready: &'a Ready,
        arguments: Arguments<'_>,
    ) -> Result<Bucket<'a>, HandlerError> {
        let name = arguments.text("bucket").unwrap_or_default();
        ready.buckets.get(name).ok_or_else(|| {
            let names: Vec<String> = ready
                .buckets
                .names()
                .map(|name| format!("`{name}`"))
                .collect();
            HandlerError::NotFound {
                service: self.name.to_string(),
                message: format!(
                    "there is no bucket `{}` for agents; there are {}",
                    name.escape_default(),
                    names.join(", ")
                ),
            }
        })
    }

    fn object(&self, ready: &Ready, arguments: Arguments<'_>) -> Result<Object, HandlerError> {
        let key = arguments.text("fileKey").unwrap_or_default();
        self.bucket(ready, arguments)?
            .object(key)
            .map_err(|reason| self.rejected(400, format!("the key {reason}")))
    }

    async fn list(&self, ready: &Ready, arguments: Arguments<'_>) -> Result<Value, HandlerError> {
        let bucket = self.bucket(ready, arguments)?;
        let wrong = |what: &str, reason: String| self.rejected(400, format!("the {what} {reason}"));
        let beginning = arguments.text("prefix").unwrap_or_default();
        let prefix = bucket
            .beginning(beginning)
            .map_err(|reason| wrong("prefix", reason))?;
        let limit = arguments
            .number("limit")
            .unwrap_or(100)
            .clamp(1, 1000)
            .to_string();
        let recursive = arguments.flag("recursive");
        let mut call = Call::new(Method::GET, Some(bucket.name), "")
            .query("list-type", "2")
            .query("prefix", &prefix)
            .query("max-keys", &limit);
        if !recursive {
            call = call.query("delimiter", "/");
        }
        let after;
        match (arguments.text("marker"), arguments.text("cursor")) {
            (Some(_), Some(_)) => {
                return Err(self.rejected(400, "give `marker` or `cursor`, not both"));
            }
            (Some(marker), None) if !marker.is_empty() => {
                let mut marker = bucket
                    .beginning(marker)
                    .map_err(|reason| wrong("marker", reason))?;
                if !recursive && marker.ends_with('/') {
                    marker.push(AFTER_FOLDER);
                }
                after = marker;
                call = call.query("start-after", &after);
            }
            (None, Some(cursor)) => call = call.query("continuation-token", cursor),
            _ => {}
        }
        let answered = self.send(ready, call).await?;
        let answer = self.document(&answered, "ListBucketResult")?;

        let foreign = || self.failed("its answer lists what was not asked for");
        let mut entries = Vec::new();
        for contents in answer.children("Contents") {
            let key = contents.text("Key").unwrap_or_default();
            let key = bucket.relative(key).ok_or_else(foreign)?;
            let size: u64 = contents
                .text("Size")
                .and_then(|size| size.trim().parse().ok())
                .unwrap_or_default();
            let etag = contents.text("ETag").map(|etag| etag.trim_matches('"'));
            let file = json!({
                "key": key, "size": size, "lastModified": contents.text("LastModified"), "etag": etag,
            });
            entries.push((key.to_owned(), file));
        }
        for folder in answer.children("CommonPrefixes") {
            let name = folder.text("Prefix").unwrap_or_default();
            let name = bucket.relative(name).ok_or_else(foreign)?;
            entries.push((name.to_owned(), Value::Null));
        }
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));

        let mut truncated = answer.text("IsTruncated") == Some("true");
        let mut cursor = answer.text("NextContinuationToken").filter(|_| truncated);
        let mut size = 0;
        let room = entries
            .iter()
            .take_while(|(name, file)| {
                size += name.len() + file.to_string().len() + 4;
                size <= self.max_result_bytes
            })
            .count()
            .max(1);
        if room < entries.len() {
            entries.truncate(room);
            // Going on there would leave out what was cut here.
            (truncated, cursor) = (true, None);
        }
        let next = entries
            .last()
            .map(|(name, _)| name.clone())
            .filter(|_| truncated);
        let (folders, files): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(_, file)| file.is_null());
        let files: Vec<Value> = files.into_iter().map(|(_, file)| file).collect();
        let folders: Vec<String> = folders.into_iter().map(|(name, _)| name).collect();
        let mut data = json!({
            "operation": "list", "bucket": bucket.name, "prefix": beginning,
            "count": files.len(), "files": files, "folders": folders, "truncated": truncated,
        });
        put(&mut data, "nextMarker", next);
        put(&mut data, "nextCursor", cursor);
        Ok(ready.scrubber.value(data))
    }

    async fn stat(&self, ready: &Ready, arguments: Arguments<'_>) -> Result<Value, HandlerError> {
        let object = self.object(ready, arguments)?;
        let stat = self.look(ready, &object).await?;
        Ok(ready.scrubber.value(json!({
            "operation": "stat", "bucket": object.bucket, "fileKey": object.key,
            "size": stat.size, "lastModified": stat.last_modified, "etag": stat.etag,
            "contentType": stat.content_type, "metadata": stat.metadata,
        })))
    }

    async fn look(&self, ready: &Ready, object: &Object) -> Result<Stat, HandlerError> {
        let call = Call::new(Method::HEAD, Some(&object.bucket), &object.full);
        let answered = self.send(ready, call).await?;
        let size = header(&answered.headers, &header::CONTENT_LENGTH)
            .and_then(|length| length.parse().ok())
            .ok_or_else(|| self.failed("its answer does not say how large the object is"))?;
        Ok(Stat {
            size,
            ..Stat::of(&answered.headers)
        })
    }

    async fn url(&self, ready: &Ready, arguments: Arguments<'_>) -> Result<Value, HandlerError> {
        let object = self.object(ready, arguments)?;
        let most = ready.presign_seconds;
        let seconds = arguments.number("expirySeconds").unwrap_or(most);
        if !(1..=most).contains(&seconds) {
            return Err(self.rejected(400, format!("a URL is good for at most {most} seconds")));
        }
        self.look(ready, &object).await?;
        let now = self.now()?;
        let (host, before) = ready.public.of(ready.style, Some(&object.bucket));
        let path = format!("{before}/{}", sign::path(&object.full));
        let signed = Signed {
            method: &Method::GET,
            host: &host,
            path: &path,
            query: &[],
            at: now,
        };
        let query = ready.key.presign(signed, seconds);
        let expires = now.plus(Duration::from_secs(seconds));
        // Not scrubbed: by its nature it names the access key. It goes to who asked, and
        // nowhere else.
        Ok(json!({
            "operation": "get_url", "bucket": object.bucket, "fileKey": object.key,
            "url": format!("{}?{query}", ready.public.url(&host, &path)),
            "expiresIn": seconds, "expiresAt": expires,
        }))
    }

    /// What a download asks for, from which byte on, and how many.
    fn range(&self, arguments: Arguments<'_>) -> (String, u64, u64) {
        let offset = arguments.number("offset").unwrap_or_default();
        let most = self.table.max_download_bytes as u64;
        let length = arguments.number("length").unwrap_or(most).clamp(1, most);
        let range = format!("bytes={offset}-{}", offset.saturating_add(length - 1));
        (range, offset, length)
    }

    async fn download(
        &self,
        ready: &Ready,
        arguments: Arguments<'_>,
    ) -> Result<Value, HandlerError> {
        let object = self.object(ready, arguments)?;
        let (range, offset, length) = self.range(arguments);
        let range =
            HeaderValue::try_from(range).map_err(|_| self.failed("its request cannot be made"))?;
        let call = Call::new(Method::GET, Some(&object.bucket), &object.full)
            .header(header::RANGE, range)
            .cut_at(usize::try_from(length).unwrap_or(usize::MAX));
        let (answered, now) = self.exchange(ready, call).await?;
        let (bytes, stat) = match answered.status {
            // Nothing of an object that is empty can be asked for by bytes.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let stat = self.look(ready, &object).await?;
                if offset > stat.size || offset == stat.size && offset > 0 {
                    let message = format!(
                        "the object has {} bytes, and none from {offset} on",
                        stat.size
                    );
                    return Err(self.rejected(400, message));
                }
                (Vec::new(), stat)
            }
            StatusCode::OK if offset > 0 => {
                return Err(self.failed("it gives no part of an object"));
            }
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                let whole = header(&answered.headers, &header::CONTENT_RANGE)
                    .and_then(|range| range.rsplit_once('/')?.1.parse().ok())
                    .or_else(|| {
                        header(&answered.headers, &header::CONTENT_LENGTH)?
                            .parse()
                            .ok()
                    })
                    .ok_or_else(|| {
                        self.failed("its answer does not say how large the object is")
                    })?;
                let stat = Stat {
                    size: whole,
                    ..Stat::of(&answered.headers)
                };
                (answered.body, stat)
            }
            status => {
                let (headers, body) = (&answered.headers, &answered.body);
                return Err(self.failure(status, headers, body, ready, now));
            }
        };
        let more = offset.saturating_add(bytes.len() as u64) < stat.size;
        let (encoding, content, taken) = match text(&bytes, more) {
            _ if arguments.text("encoding") == Some("base64") => base64(&bytes),
            Some(text) => ("text", ready.scrubber.text(text), text.len()),
            None if arguments.text("encoding") == Some("text") => {
                return Err(self.rejected(400, "the object is not text; ask for base64"));
            }
            None => base64(&bytes),
        };
        let next = offset.saturating_add(taken as u64);
        let truncated = next < stat.size;
        let whole = offset == 0 && !truncated;
        // Base64 of what holds a secret of ours is not handed out in any form.
        let content = if encoding == "base64" && ready.scrubber.knows(&content) {
            return Err(self.failed("the object holds a credential of the gateway's"));
        } else {
            content
        };
        let mut data = json!({
            "operation": "download", "bucket": object.bucket, "fileKey": object.key,
            "size": stat.size, "contentType": stat.content_type, "etag": stat.etag,
            "lastModified": stat.last_modified,
            "offset": offset, "bytes": taken, "encoding": encoding,
            "truncated": truncated,
        });
        put(&mut data, "nextOffset", Some(next).filter(|_| truncated));
        put(
            &mut data,
            "checksumSha256",
            whole.then(|| sign::sha256(&bytes)),
        );
        let mut data = ready.scrubber.value(data);
        put(&mut data, "content", Some(content));
        Ok(data)
    }

    async fn delete(&self, ready: &Ready, arguments: Arguments<'_>) -> Result<Value, HandlerError> {
        let object = self.object(ready, arguments)?;
        // S3 says of what was never there that it is gone; an agent that mistyped a key
        // should know.
        self.look(ready, &object).await?;
        let call = Call::new(Method::DELETE, Some(&object.bucket), &object.full);
        self.send(ready, call).await?;
        Ok(json!({
            "operation": "delete", "success": true, "bucket": object.bucket, "fileKey": object.key,
            "deletedAt": self.now()?,
        }))
    }

    async fn check(&self, ready: &Ready) -> Result<Value, HandlerError> {
        let began = tokio::time::Instant::now();
        let mut wrong = Vec::new();
        let mut well = 0_usize;
        for bucket in ready.buckets.iter() {
            let call = Call::new(Method::HEAD, Some(bucket.name), "");
            match self.send(ready, call).await {
                Ok(_) => well += 1,
                // The service answers; this one bucket is not there.
                Err(HandlerError::NotFound { .. }) => {
                    wrong.push(format!("there is no bucket `{}`", bucket.name));
                }
                Err(error) => return Err(error),
            }
        }
        let latency = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut data = json!({
            "operation": "health", "healthy": wrong.is_empty(), "service": self.name,
            "latency": latency, "bucketsCount": well, "timestamp": self.now()?,
        });
        if !wrong.is_empty() {
            put(&mut data, "error", Some(wrong.join("; ")));
        }
        Ok(data)
    }

    /// An answer in XML whose element has this name.
    fn document(&self, answered: &Answered, name: &str) -> Result<xml::Element, HandlerError> {
        let wrong =
            |reason: &str| self.failed(format!("{reason}; does {} speak S3?", self.address()));
        let document = xml::parse(&answered.body).map_err(wrong)?;
        if document.name == name {
            Ok(document)
        } else {
            Err(wrong("its answer is not what it should be"))
        }
    }
}

/// What there is for agents.
fn buckets(ready: &Ready) -> Value {
    let buckets: Vec<Value> = ready
        .buckets
        .iter()
        .map(|bucket| json!({"name": bucket.name}))
        .collect();
    json!({
        "operation": "list_buckets",
        "count": buckets.len(),
        "buckets": buckets,
        "maxUploadBytes": ready.max_upload,
        "types": ready.types.shown(),
    })
}

impl Stat {
    /// All but the size.
    fn of(headers: &HeaderMap) -> Self {
        let metadata = headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(METADATA)?;
            let value = upload::readable(&String::from_utf8_lossy(value.as_bytes()));
            Some((name.to_owned(), Value::String(value)))
        });
        Self {
            size: 0,
            last_modified: header(headers, &header::LAST_MODIFIED).map(time),
            etag: header(headers, &header::ETAG).map(|etag| etag.trim_matches('"').to_owned()),
            content_type: header(headers, &header::CONTENT_TYPE).map(str::to_owned),
            metadata: metadata.collect(),
        }
    }
}

/// What the agent said, checked against the command's schema before.
#[derive(Clone, Copy, Debug)]
struct Arguments<'a>(&'a Map<String, Value>);

impl<'a> Arguments<'a> {
    fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name)?.as_str()
    }

    fn number(self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    fn flag(self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool) == Some(true)
    }

    fn object(self, name: &str) -> Option<&'a Map<String, Value>> {
        self.0.get(name)?.as_object()
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Adds a field, if there is one.
fn put<T: Into<Value>>(data: &mut Value, name: &str, value: Option<T>) {
    if let (Value::Object(data), Some(value)) = (data, value) {
        data.insert(name.to_owned(), value.into());
    }
}

/// A header's time as RFC 3339, if it is one.
fn time(text: &str) -> String {
    jiff::fmt::rfc2822::parse(text).map_or_else(
        |_| text.to_owned(),
        |time| format!("{:.3}", time.timestamp()),
    )
}

/// The bytes as text, without a letter at the end of which a part is missing because there
/// is `more`.
fn text(bytes: &[u8], more: bool) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if more && error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    // A part must hold something, or nobody could go on behind it.
    let readable = (!text.is_empty() || bytes.is_empty())
        && !text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    readable.then_some(text)
}

fn base64(bytes: &[u8]) -> (&'static str, String, usize) {
    ("base64", STANDARD.encode(bytes), bytes.len())
}
