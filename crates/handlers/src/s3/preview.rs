//! Preview: the request that a command would send, without its signature.

use authz::Command;
use http::Method;
use percent_encoding::utf8_percent_encode;

use super::{Arguments, S3Service, settings::Ready, sign, upload};
use crate::{http::request::ENCODED, preview::ObjectRequest};

impl S3Service {
    /// The request that `command` would send: of several, the one that does what was asked
    /// for. None when it sends none.
    pub(crate) fn preview(&self, command: &Command) -> Result<Option<ObjectRequest>, String> {
        let ready = self.ready.load();
        let ready = match ready.as_ref() {
            Ok(ready) => ready,
            // Which buckets there are for agents is configured, too.
            Err(reason) => return Err(format!("`{}` is not configured: {reason}", self.name)),
        };
        let arguments = Arguments(command.arguments.values());
        let told = |error: crate::HandlerError| error.to_string();
        let name = command.target.key.name.as_str();
        let (method, headers) = match name {
            "list" => return self.list_preview(ready, arguments).map(Some),
            "stat" | "get-url" => (Method::HEAD, Vec::new()),
            "download" => {
                let range = self.range(arguments).0;
                (Method::GET, vec![("range".to_owned(), range)])
            }
            "upload" => {
                let kind = upload::media_type(arguments);
                let mut headers = vec![("content-type".to_owned(), kind.to_owned())];
                if !arguments.flag("overwrite") {
                    headers.push(("if-none-match".to_owned(), "*".to_owned()));
                }
                (Method::PUT, headers)
            }
            "delete" => (Method::DELETE, Vec::new()),
            _ => return Ok(None),
        };
        let object = self.object(ready, arguments).map_err(told)?;
        let mut request = shown(ready, &method, &object.bucket, &object.full, "");
        request.headers = headers;
        Ok(Some(request))
    }

    fn list_preview(
        &self,
        ready: &Ready,
        arguments: Arguments<'_>,
    ) -> Result<ObjectRequest, String> {
        let bucket = self.bucket(ready, arguments);
        let bucket = bucket.map_err(|error| error.to_string())?;
        let prefix = bucket
            .beginning(arguments.text("prefix").unwrap_or_default())
            .map_err(|reason| format!("the prefix {reason}"))?;
        let query = format!(
            "?list-type=2&prefix={}",
            utf8_percent_encode(&prefix, ENCODED)
        );
        let mut request = shown(ready, &Method::GET, bucket.name, "", &query);
        request.key = prefix;
        Ok(request)
    }
}

fn shown(ready: &Ready, method: &Method, bucket: &str, key: &str, query: &str) -> ObjectRequest {
    let (host, before) = ready.origin.of(ready.style, Some(bucket));
    let path = format!("{before}/{}", sign::path(key));
    ObjectRequest {
        method: method.to_string(),
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        url: format!("{}{query}", ready.origin.url(&host, &path)),
        headers: Vec::new(),
    }
}
