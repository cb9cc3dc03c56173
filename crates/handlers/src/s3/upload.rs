//! Uploads: from an argument or from a body, in one request or in parts.
//!
//! No more than one part is in memory. What an agent said of the bytes (how many, which
//! SHA-256, which type) is what its permit rests on, so all of it is checked before the
//! object is there: a small one is sent when all is known, a large one is put together on the
//! server at the end, and if anything is wrong its parts are thrown away there.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use authz::AgentId;
use aws_lc_rs::digest::{self, SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use md5::{Digest as _, Md5};
use serde_json::{Map, Value, json};

use super::{
    Arguments, METADATA, S3Service, key::Object, put, send::Call, settings::Ready, types, xml,
};
use crate::{Content, ContentError, HandlerError};

/// What is longer comes in parts of this length; servers take none below five MiB.
const PART: u64 = 8 << 20;

/// All metadata of an object, in bytes, names and values.
const MOST_METADATA: usize = 2048;

/// A server may take minutes to put a large object together.
const COMPLETING: Duration = Duration::from_mins(5);

/// No server's name for an upload is longer.
const LONGEST_ID: usize = 2048;

/// What an agent said of an object.
struct Announced<'a> {
    object: Object,
    size: u64,
    sha256: Option<&'a str>,
    media_type: String,
    /// What is kept with it, as headers.
    headers: HeaderMap,
    metadata: Value,
    overwrite: bool,
}

impl S3Service {
    pub(super) async fn upload(
        self: &Arc<Self>,
        ready: &Arc<Ready>,
        agent: AgentId,
        arguments: Arguments<'_>,
        content: Option<Content>,
    ) -> Result<Value, HandlerError> {
        let (content, size) = self.source(arguments, content)?;
        let announced = self.announced(ready, agent, arguments, size)?;
        if !announced.overwrite {
            match self.look(ready, &announced.object).await {
                Ok(_) => return Err(self.exists()),
                Err(HandlerError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let intake = Intake::new(self, content, &announced);
        let mut data = if size <= PART {
            self.at_once(ready, &announced, intake).await?
        } else {
            self.in_parts(ready, &announced, intake).await?
        };
        put(&mut data, "metadata", Some(announced.metadata));
        Ok(ready.scrubber.value(data))
    }

    fn exists(&self) -> HandlerError {
        self.rejected(409, "the object is there already; `overwrite` replaces it")
    }

    /// The bytes, and how many they are said to be.
    fn source(
        &self,
        arguments: Arguments<'_>,
        content: Option<Content>,
    ) -> Result<(Content, u64), HandlerError> {
        let wrong = |message: &str| self.rejected(400, message);
        let inline = |bytes: Bytes| {
            let size = bytes.len() as u64;
            let bytes = futures_util::stream::iter([Ok(bytes)]);
            (Content::new(Some(size), bytes), size)
        };
        let (text, buffer) = (arguments.text("content"), arguments.text("fileBuffer"));
        let (content, size) = match (text, buffer, content) {
            (Some(text), None, None) => inline(Bytes::copy_from_slice(text.as_bytes())),
            (None, Some(buffer), None) => {
                let bytes = STANDARD
                    .decode(buffer)
                    .map_err(|_| wrong("`fileBuffer` is not base64"))?;
                inline(bytes.into())
            }
            (None, None, Some(content)) => {
                let (Some(size), Some(_)) = (arguments.number("size"), arguments.text("sha256"))
                else {
                    return Err(wrong(
                        "a body needs `size` and `sha256`: what was permitted is what is stored",
                    ));
                };
                if content.length().is_some_and(|length| length != size) {
                    return Err(wrong("the body is not as long as `size` says"));
                }
                (content, size)
            }
            (None, None, None) => {
                return Err(wrong(
                    "nothing to upload: give `content`, `fileBuffer`, or a body with `PUT /execute`",
                ));
            }
            _ => return Err(wrong("give one of `content`, `fileBuffer` and a body")),
        };
        if arguments.number("size").is_some_and(|said| said != size) {
            return Err(wrong("there are not as many bytes as `size` says"));
        }
        Ok((content, size))
    }

    fn announced<'a>(
        &self,
        ready: &Ready,
        agent: AgentId,
        arguments: Arguments<'a>,
        size: u64,
    ) -> Result<Announced<'a>, HandlerError> {
        let object = self.object(ready, arguments)?;
        if size > ready.max_upload {
            let message = format!(
                "an object may have at most {} bytes, not {size}",
                ready.max_upload
            );
            return Err(self.rejected(413, message));
        }
        let media_type = media_type(arguments);
        if !ready.types.allow(media_type) {
            let allowed = ready.types.shown();
            let message = format!("`{media_type}` may not be uploaded; what may is {allowed}");
            return Err(self.rejected(400, message));
        }
        let sha256 = arguments.text("sha256");
        let (mut headers, metadata) = metadata(agent, arguments.object("metadata"), sha256)
            .map_err(|message| self.rejected(400, message))?;
        let value = HeaderValue::try_from(media_type)
            .map_err(|_| self.rejected(400, "`contentType` is not a type"))?;
        headers.insert(header::CONTENT_TYPE, value);
        Ok(Announced {
            object,
            size,
            sha256,
            media_type: media_type.to_owned(),
            headers,
            metadata,
            overwrite: arguments.flag("overwrite"),
        })
    }

    async fn at_once(
        &self,
        ready: &Ready,
        announced: &Announced<'_>,
        mut intake: Intake<'_>,
    ) -> Result<Value, HandlerError> {
        let bytes = intake.part(announced.size).await?;
        let sha256 = intake.finish()?;
        let md5 = Md5::digest(&bytes);
        let mut call = Call::new(
            Method::PUT,
            Some(&announced.object.bucket),
            &announced.object.full,
        )
        .headers(announced.headers.clone())
        .header(content_md5(), digest_header(&md5))
        .body(bytes);
        let of = |name: &str, value: &str| {
            let name = HeaderName::try_from(format!("{METADATA}{name}"));
            name.ok().zip(HeaderValue::try_from(value).ok())
        };
        let md5 = hex::encode(md5);
        // As the gateway before this one did.
        for (name, value) in [of("x-md5-checksum", &md5), of("x-sha256-checksum", &sha256)]
            .into_iter()
            .flatten()
        {
            call = call.header(name, value);
        }
        if !announced.overwrite {
            call = call.header(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let (answered, now) = self.exchange(ready, call).await?;
        let etag = match answered.status.as_u16() {
            // An attempt of ours whose answer was lost may be what is there now.
            412 if answered.attempts > 1 => {
                let stat = self.look(ready, &announced.object).await?;
                let kept = stat
                    .metadata
                    .get("x-sha256-checksum")
                    .and_then(Value::as_str);
                if kept != Some(&sha256) {
                    return Err(self.exists());
                }
                stat.etag
            }
            409 | 412 if !announced.overwrite => return Err(self.exists()),
            200..=299 => super::header(&answered.headers, &header::ETAG)
                .map(|etag| etag.trim_matches('"').to_owned()),
            _ => {
                let (headers, body) = (&answered.headers, &answered.body);
                return Err(self.failure(answered.status, headers, body, ready, now));
            }
        };
        let mut data = stored(ready, announced, etag.as_deref(), &sha256);
        put(&mut data, "checksumMd5", Some(md5));
        Ok(data)
    }

    async fn in_parts(
        self: &Arc<Self>,
        ready: &Arc<Ready>,
        announced: &Announced<'_>,
        mut intake: Intake<'_>,
    ) -> Result<Value, HandlerError> {
        let _place = self
            .uploads
            .try_acquire()
            .map_err(|_| HandlerError::TooMany {
                service: self.name.to_string(),
                retry_after: Some(Duration::from_secs(10)),
            })?;
        // What is not what it is said to be begins nothing.
        let first = intake.part(PART).await?;
        // In a task of its own: if nobody waits for the server's answer any more, what it began
        // is thrown away when the answer comes.
        let begun = tokio::spawn(Arc::clone(self).begin(Arc::clone(ready), announced.into()));
        let unfinished = begun
            .await
            .map_err(|_| self.failed("the upload could not be begun"))??;
        let outcome = self
            .parts(ready, announced, intake, first, &unfinished.id)
            .await;
        match outcome {
            Ok(data) => {
                unfinished.completed();
                Ok(data)
            }
            Err(error) => {
                unfinished.abort().await;
                Err(error)
            }
        }
    }

    async fn begin(
        self: Arc<Self>,
        ready: Arc<Ready>,
        beginning: Beginning,
    ) -> Result<Unfinished, HandlerError> {
        let Beginning { object, headers } = beginning;
        let call = Call::new(Method::POST, Some(&object.bucket), &object.full)
            .query("uploads", "")
            .headers(headers);
        let answered = self.send(&ready, call).await?;
        let document = self.document(&answered, "InitiateMultipartUploadResult")?;
        let id = document
            .text("UploadId")
            .filter(|id| !id.is_empty() && id.len() <= LONGEST_ID)
            .ok_or_else(|| self.failed("its answer does not name the upload"))?
            .to_owned();
        Ok(Unfinished {
            service: self,
            ready,
            object,
            id,
            ended: false,
        })
    }

    async fn parts(
        &self,
        ready: &Ready,
        announced: &Announced<'_>,
        mut intake: Intake<'_>,
        first: Bytes,
        id: &str,
    ) -> Result<Value, HandlerError> {
        let object = &announced.object;
        let mut next = Some(first);
        let mut list = String::from("<CompleteMultipartUpload>");
        let mut digests = Md5::new();
        let mut number = 0_u32;
        while let Some(part) = next.take() {
            number += 1;
            let digest = Md5::digest(&part);
            digests.update(digest);
            let name = number.to_string();
            let call = Call::new(Method::PUT, Some(&object.bucket), &object.full)
                .query("partNumber", &name)
                .query("uploadId", id)
                .header(content_md5(), digest_header(&digest))
                .body(part);
            let answered = self.send(ready, call).await?;
            let etag = super::header(&answered.headers, &header::ETAG)
                .ok_or_else(|| self.failed("its answer does not name the part"))?;
            // Writing to a text cannot fail.
            let _ = write!(
                list,
                "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>",
                xml::escaped(etag)
            );
            if intake.left > 0 {
                next = Some(intake.part(PART).await?);
            }
        }
        list.push_str("</CompleteMultipartUpload>");
        let sha256 = intake.finish()?;

        let mut call = Call::new(Method::POST, Some(&object.bucket), &object.full)
            .query("uploadId", id)
            .body(list.into())
            .again()
            .patiently(COMPLETING);
        if !announced.overwrite {
            call = call.header(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let expected = format!("{}-{number}", hex::encode(digests.finalize()));
        let etag = match self.complete(ready, call).await {
            Ok(etag) => etag,
            // Whether it was done is not known, or it was done by an attempt whose answer was
            // lost; what is there now tells.
            Err(
                error @ (HandlerError::Timeout { .. }
                | HandlerError::Broken { .. }
                | HandlerError::NotFound { .. }),
            ) => match self.look(ready, object).await {
                Ok(stat) if stat.etag.as_ref() == Some(&expected) => stat.etag,
                _ => return Err(error),
            },
            Err(HandlerError::Rejected { status: 409, .. }) if !announced.overwrite => {
                return Err(self.exists());
            }
            Err(error) => return Err(error),
        };
        let mut data = stored(ready, announced, etag.as_deref(), &sha256);
        put(&mut data, "parts", Some(number));
        Ok(data)
    }

    /// Puts the parts together. A server may find out that it cannot after it has said that
    /// all is well.
    async fn complete(
        &self,
        ready: &Ready,
        call: Call<'_>,
    ) -> Result<Option<String>, HandlerError> {
        let answered = self.send(ready, call).await?;
        let document = self.document(&answered, "CompleteMultipartUploadResult");
        let document = document.map_err(|error| {
            if xml::parse(&answered.body).is_ok_and(|said| said.name == "Error") {
                let now = self.now().unwrap_or_default();
                let status = http::StatusCode::BAD_REQUEST;
                self.failure(status, &answered.headers, &answered.body, ready, now)
            } else {
                error
            }
        })?;
        Ok(document
            .text("ETag")
            .map(|etag| etag.trim_matches('"').to_owned()))
    }
}

/// What the server is told of an upload before its parts.
struct Beginning {
    object: Object,
    headers: HeaderMap,
}

impl From<&Announced<'_>> for Beginning {
    fn from(announced: &Announced<'_>) -> Self {
        let mut headers = announced.headers.clone();
        let sha256 = announced.sha256.map(HeaderValue::try_from);
        if let Some(Ok(sha256)) = sha256 {
            headers.insert(
                HeaderName::from_static("x-amz-meta-x-sha256-checksum"),
                sha256,
            );
        }
        Self {
            object: announced.object.clone(),
            headers,
        }
    }
}

/// An upload of which the server holds parts. They are thrown away unless it is completed.
struct Unfinished {
    service: Arc<S3Service>,
    ready: Arc<Ready>,
    object: Object,
    id: String,
    ended: bool,
}

impl Unfinished {
    fn completed(mut self) {
        self.ended = true;
    }

    async fn abort(mut self) {
        self.ended = true;
        abort(&self.service, &self.ready, &self.object, &self.id).await;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Whoever waited for it is gone.
        if !self.ended
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (service, ready) = (Arc::clone(&self.service), Arc::clone(&self.ready));
            let (object, id) = (self.object.clone(), self.id.clone());
            runtime.spawn(async move { abort(&service, &ready, &object, &id).await });
        }
    }
}

async fn abort(service: &S3Service, ready: &Ready, object: &Object, id: &str) {
    let call = Call::new(Method::DELETE, Some(&object.bucket), &object.full).query("uploadId", id);
    match service.send(ready, call).await {
        Ok(_) | Err(HandlerError::NotFound { .. }) => {}
        Err(error) => tracing::warn!(
            service = %service.name,
            bucket = object.bucket,
            %error,
            "parts of an upload that failed are left on the server; let it throw such away after a day"
        ),
    }
}

/// Takes in what was announced, and nothing else.
struct Intake<'a> {
    service: &'a S3Service,
    content: Content,
    media_type: &'a str,
    sha256: Option<&'a str>,
    hash: digest::Context,
    size: u64,
    /// Announced, and not taken in yet.
    left: u64,
    /// What came beyond the end of a part.
    beyond: Bytes,
    /// Of text: the beginning of a letter whose end comes next.
    letter: Vec<u8>,
}

impl<'a> Intake<'a> {
    fn new(service: &'a S3Service, content: Content, announced: &'a Announced<'_>) -> Self {
        Self {
            service,
            content,
            media_type: &announced.media_type,
            sha256: announced.sha256,
            hash: digest::Context::new(&SHA256),
            size: announced.size,
            left: announced.size,
            beyond: Bytes::new(),
            letter: Vec::new(),
        }
    }

    /// The next so many bytes, or what is left.
    async fn part(&mut self, length: u64) -> Result<Bytes, HandlerError> {
        let first = self.left == self.size;
        let length = usize::try_from(length.min(self.left)).unwrap_or(usize::MAX);
        let mut part = BytesMut::with_capacity(length);
        while part.len() < length {
            let Some(mut chunk) = self.next().await? else {
                let came = self.size - self.left + part.len() as u64;
                let message = format!("{came} bytes came, not the {} of `size`", self.size);
                return Err(self.service.rejected(400, message));
            };
            self.beyond = chunk.split_off(chunk.len().min(length - part.len()));
            part.extend_from_slice(&chunk);
        }
        self.left -= part.len() as u64;
        if self.left == 0 && self.next().await?.is_some() {
            let message = format!("more bytes came than the {} of `size`", self.size);
            return Err(self.service.rejected(400, message));
        }
        let part = part.freeze();
        if first {
            let beginning = part.get(..types::TELLING).unwrap_or(&part);
            types::fits(self.media_type, beginning)
                .map_err(|reason| self.service.rejected(400, format!("the content {reason}")))?;
        }
        if types::is_text(self.media_type) {
            self.check_text(&part)?;
        }
        self.hash.update(&part);
        Ok(part)
    }

    /// What comes next, never nothing.
    async fn next(&mut self) -> Result<Option<Bytes>, HandlerError> {
        if !self.beyond.is_empty() {
            return Ok(Some(std::mem::take(&mut self.beyond)));
        }
        loop {
            match self.content.next().await {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(chunk) => return Ok(chunk),
                Err(error @ (ContentError::Broken | ContentError::Slow)) => {
                    return Err(self.service.rejected(400, error.to_string()));
                }
            }
        }
    }

    fn check_text(&mut self, part: &[u8]) -> Result<(), HandlerError> {
        let joined;
        let bytes = if self.letter.is_empty() {
            part
        } else {
            joined = [&self.letter, part].concat();
            &joined
        };
        let rest = match std::str::from_utf8(bytes) {
            Ok(_) => Vec::new(),
            Err(error) if error.error_len().is_none() && self.left > 0 => bytes
                .get(error.valid_up_to()..)
                .unwrap_or_default()
                .to_vec(),
            Err(_) => return Err(self.not_text()),
        };
        if bytes.contains(&0) {
            return Err(self.not_text());
        }
        self.letter = rest;
        Ok(())
    }

    fn not_text(&self) -> HandlerError {
        let message = format!("the content is not text, as `{}` is", self.media_type);
        self.service.rejected(400, message)
    }

    /// The SHA-256 of all, if it is what was announced.
    fn finish(self) -> Result<String, HandlerError> {
        let found = hex::encode(self.hash.finish());
        match self.sha256 {
            Some(said) if said != found => Err(self.service.rejected(
                400,
                format!("the content's SHA-256 is {found}, not `sha256`"),
            )),
            _ => Ok(found),
        }
    }
}

/// What an agent is told of an object that is stored.
fn stored(ready: &Ready, announced: &Announced<'_>, etag: Option<&str>, sha256: &str) -> Value {
    let object = &announced.object;
    let (host, before) = ready.public.of(ready.style, Some(&object.bucket));
    let path = format!("{before}/{}", super::sign::path(&object.full));
    json!({
        "operation": "upload", "fileKey": object.key, "bucket": object.bucket,
        "url": ready.public.url(&host, &path), "size": announced.size, "etag": etag,
        "contentType": announced.media_type, "checksumSha256": sha256,
    })
}

fn content_md5() -> HeaderName {
    HeaderName::from_static("content-md5")
}

fn digest_header(digest: &[u8]) -> HeaderValue {
    // Base64 always is a header's value.
    HeaderValue::try_from(STANDARD.encode(digest)).unwrap_or(HeaderValue::from_static(""))
}

/// What is kept with an object, as headers and as it is told: who uploaded it, which comes
/// from the identity, and what the agent said.
fn metadata(
    agent: AgentId,
    given: Option<&Map<String, Value>>,
    sha256: Option<&str>,
) -> Result<(HeaderMap, Value), String> {
    let agent = agent.to_string();
    let mut told = Map::from_iter([
        ("uploadedBy".to_owned(), json!(agent)),
        ("entityScope".to_owned(), json!("shared")),
    ]);
    for (name, value) in given.into_iter().flatten() {
        let text = value
            .as_str()
            .ok_or_else(|| format!("`metadata.{}` is not a text", name.escape_default()))?;
        if name == "uploadedBy" && text != agent {
            return Err("`metadata.uploadedBy` is who uploads: leave it out".to_owned());
        }
        told.insert(name.clone(), value.clone());
    }
    let mut headers = HeaderMap::new();
    let mut length = sha256.map_or(0, str::len);
    for (name, value) in &told {
        let header = match name.as_str() {
            "uploadedBy" => "x-uploaded-by",
            "entityScope" => "x-entity-scope",
            "originalFilename" => "x-original-filename",
            other => other,
        };
        let is_name = (1..=64).contains(&header.len())
            && header
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !header.ends_with("-checksum");
        let header = HeaderName::try_from(format!("{METADATA}{}", header.to_ascii_lowercase()))
            .ok()
            .filter(|_| is_name)
            .ok_or_else(|| format!("`{}` is not a name for metadata", name.escape_default()))?;
        let text = value.as_str().unwrap_or_default();
        let value = HeaderValue::try_from(writable(text))
            .map_err(|_| format!("`metadata.{name}` holds a control character"))?;
        length += header.as_str().len() + value.len();
        if headers.insert(header, value).is_some() {
            return Err(format!("`metadata.{name}` is there twice"));
        }
    }
    if length > MOST_METADATA {
        return Err(format!(
            "all `metadata` may have {MOST_METADATA} bytes, not {length}"
        ));
    }
    Ok((headers, Value::Object(told)))
}

/// Text as a header holds it: as it is, or as RFC 2047 has it.
fn writable(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && text.split(' ').all(|word| !word.is_empty())
        && !text.starts_with("=?");
    if plain || text.chars().any(char::is_control) {
        text.to_owned()
    } else {
        format!("=?UTF-8?B?{}?=", STANDARD.encode(text))
    }
}

/// The same, back.
pub(super) fn readable(value: &str) -> String {
    let encoded = value
        .strip_prefix("=?UTF-8?B?")
        .and_then(|rest| rest.strip_suffix("?="));
    let decoded = encoded.and_then(|encoded| {
        let bytes = STANDARD.decode(encoded).ok()?;
        String::from_utf8(bytes).ok()
    });
    decoded.unwrap_or_else(|| value.to_owned())
}

/// What the content is said to be.
pub(super) fn media_type(arguments: Arguments<'_>) -> &str {
    let plain = arguments
        .text("content")
        .map(|_| "text/plain; charset=utf-8");
    arguments
        .text("contentType")
        .or(plain)
        .unwrap_or("application/octet-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_as_it_went() {
        let cases = [
            "plain",
            "two  spaces",
            " space ",
            "",
            "\u{fc}n\u{ef}c\u{f6}d\u{e9}",
            "=?UTF-8?B?eA==?=",
            "a=b; c",
        ];
        for text in cases {
            let written = writable(text);
            assert!(HeaderValue::try_from(&written).unwrap().to_str().is_ok());
            assert_eq!(readable(&written), text);
        }
    }

    #[test]
    fn who_uploaded_comes_from_the_identity() {
        let given = |value: Value| metadata(AgentId::LOCAL, value.as_object(), None);
        let (headers, told) = given(json!({"originalFilename": "a.txt", "Team": "x"})).unwrap();
        let agent = AgentId::LOCAL.to_string();
        assert_eq!(headers["x-amz-meta-x-uploaded-by"], agent.as_str());
        assert_eq!(headers["x-amz-meta-x-original-filename"], "a.txt");
        assert_eq!(headers["x-amz-meta-team"], "x");
        assert_eq!(told["uploadedBy"], json!(agent));
        for wrong in [
            json!({"uploadedBy": "somebody else"}),
            json!({"a b": "x"}),
            json!({"a\r\nb": "x"}),
            json!({"a": "x\r\nx-amz-acl: public-read"}),
            json!({"a": 1}),
            json!({"team": "x", "Team": "y"}),
            json!({"x-uploaded-by": "somebody else"}),
            json!({"X-Uploaded-By": "somebody else"}),
            json!({"x-sha256-checksum": "0"}),
            json!({"a": "x".repeat(3000)}),
        ] {
            assert!(given(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
