//! Which paths there are, and what each is for.

use http::{Method, Response, StatusCode, header};
use serde_json::json;

use crate::{
    answer::{self, Body},
    oauth::Resource,
};

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET /health`.
    Health,
    /// `GET /ready`.
    Ready,
    /// `GET /info`.
    Info,
    /// `GET /openapi.json`.
    OpenApi,
    /// `GET /.well-known/oauth-protected-resource`, and the same before a door's path: how
    /// clients of MCP get a token, where they need one.
    Metadata(Resource),
    /// `GET /mcp/catalog`.
    Catalog,
    /// `GET /mcp/service/{name}`.
    Service(String),
    /// `POST /execute` and `POST /mcp/execute`.
    Execute,
    /// `PUT /execute`: a command that comes with content.
    Upload,
    /// `POST /mcp/rpc`.
    Rpc,
    /// `POST /mcp/test/{service}`.
    Test(String),
    /// `GET /approvals`.
    Approvals,
    /// `GET /approvals/{id}`.
    Approval(String),
    /// `DELETE /approvals/{id}`.
    Withdraw(String),
    /// `POST`, `GET` and `DELETE /mcp/{service}`: one MCP server, through policy.
    Mcp(String),
    /// `POST /mcp`: every service as one MCP server.
    McpAll,
}

/// Why a request is for nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No such path.
    Path,
    /// Not with this method.
    Method {
        /// The path's pattern.
        pattern: &'static str,
        /// The methods that there are.
        allow: &'static str,
    },
}

/// What stands before a door's path where its metadata is: RFC 9728, section 3.
pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";

const GET: &str = "GET, HEAD";
const POST: &str = "POST";
const POST_PUT: &str = "POST, PUT";
const GET_DELETE: &str = "GET, HEAD, DELETE";
const MCP: &str = "POST, GET, DELETE";

impl Route {
    /// Finds the route of a request.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(crate) fn find(method: &Method, path: &str) -> Result<Self, Missing> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let (route, allow) = match segments.as_slice() {
            ["health"] => (Self::Health, GET),
            ["ready"] => (Self::Ready, GET),
            ["info"] => (Self::Info, GET),
            ["openapi.json"] => (Self::OpenApi, GET),
            [".well-known", "oauth-protected-resource", rest @ ..] => {
                let door = match rest {
                    [] => Some(Resource::All),
                    _ => Resource::of(path.strip_prefix(METADATA).unwrap_or_default()),
                };
                (Self::Metadata(door.ok_or(Missing::Path)?), GET)
            }
            ["mcp", "catalog"] => (Self::Catalog, GET),
            ["mcp", "service", name] if !name.is_empty() => {
                (Self::Service((*name).to_owned()), GET)
            }
            ["execute"] if *method == Method::PUT => (Self::Upload, POST_PUT),
            ["execute"] => (Self::Execute, POST_PUT),
            ["mcp", "execute"] => (Self::Execute, POST),
            ["mcp", "rpc"] => (Self::Rpc, POST),
            ["mcp", "test", name] if !name.is_empty() => (Self::Test((*name).to_owned()), POST),
            ["approvals"] => (Self::Approvals, GET),
            ["approvals", id] if !id.is_empty() => {
                let id = (*id).to_owned();
                let route = match *method {
                    Method::DELETE => Self::Withdraw(id),
                    _ => Self::Approval(id),
                };
                (route, GET_DELETE)
            }
            // After every other path below `/mcp`: a service of such a name has no door.
            ["mcp"] => (Self::McpAll, MCP),
            ["mcp", name] if !name.is_empty() => (Self::Mcp((*name).to_owned()), MCP),
            _ => return Err(Missing::Path),
        };
        let allowed = match allow {
            MCP => matches!(*method, Method::POST | Method::GET | Method::DELETE),
            POST => *method == Method::POST,
            POST_PUT => matches!(*method, Method::POST | Method::PUT),
            GET_DELETE if *method == Method::DELETE => true,
            _ => *method == Method::GET || *method == Method::HEAD,
        };
        if allowed {
            Ok(route)
        } else {
            Err(Missing::Method {
                pattern: route.pattern(),
                allow,
            })
        }
    }

    /// One of each, for whoever tells of all of them; without those of MCP, which the
    /// protocol describes.
    pub(crate) fn every() -> Vec<Self> {
        let name = String::new;
        vec![
            Self::Health,
            Self::Ready,
            Self::Info,
            Self::OpenApi,
            Self::Catalog,
            Self::Service(name()),
            Self::Execute,
            Self::Upload,
            Self::Rpc,
            Self::Test(name()),
            Self::Approvals,
            Self::Approval(name()),
            Self::Withdraw(name()),
        ]
    }

    /// The method that it is for; what answers to `GET` answers to `HEAD`.
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Execute | Self::Rpc | Self::Test(_) | Self::Mcp(_) | Self::McpAll => Method::POST,
            Self::Withdraw(_) => Method::DELETE,
            Self::Upload => Method::PUT,
            Self::Health
            | Self::Ready
            | Self::Info
            | Self::OpenApi
            | Self::Metadata(_)
            | Self::Catalog
            | Self::Service(_)
            | Self::Approvals
            | Self::Approval(_) => Method::GET,
        }
    }

    /// Its paths, with what varies in braces: [`Route::pattern`], and others that mean the same.
    pub(crate) fn paths(&self) -> Vec<&'static str> {
        match self {
            Self::Execute => vec!["/execute", "/mcp/execute"],
            other => vec![other.pattern()],
        }
    }

    /// The path without what varies: a label of few values.
    pub(crate) fn pattern(&self) -> &'static str {
        match self {
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Info => "/info",
            Self::OpenApi => "/openapi.json",
            Self::Metadata(_) => METADATA,
            Self::Catalog => "/mcp/catalog",
            Self::Service(_) => "/mcp/service/{name}",
            Self::Execute | Self::Upload => "/execute",
            Self::Rpc => "/mcp/rpc",
            Self::Test(_) => "/mcp/test/{service}",
            Self::Approvals => "/approvals",
            Self::Approval(_) | Self::Withdraw(_) => "/approvals/{id}",
            Self::Mcp(_) => "/mcp/{service}",
            Self::McpAll => "/mcp",
        }
    }
}

impl Missing {
    /// The label of a request for nothing.
    pub(crate) fn pattern(&self) -> &'static str {
        match self {
            Self::Path => "unknown",
            Self::Method { pattern, .. } => pattern,
        }
    }

    /// The answer.
    pub(crate) fn into_response(self, method: &Method, path: &str) -> Response<Body> {
        let shown: String = path
            .chars()
            .take(128)
            .flat_map(char::escape_default)
            .collect();
        match self {
            Self::Path => answer::json(
                StatusCode::NOT_FOUND,
                &json!({"error": "Not Found", "message": format!("Route {method} {shown} not found")}),
            ),
            Self::Method { allow, .. } => {
                let message = format!("Route {shown} takes {allow}, not {method}");
                let mut response = answer::json(
                    StatusCode::METHOD_NOT_ALLOWED,
                    &json!({"error": "Method Not Allowed", "message": message}),
                );
                response
                    .headers_mut()
                    .insert(header::ALLOW, http::HeaderValue::from_static(allow));
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_exactly() {
        let found = |method: Method, path: &str| Route::find(&method, path);
        assert_eq!(found(Method::POST, "/execute"), Ok(Route::Execute));
        assert_eq!(found(Method::POST, "/mcp/execute"), Ok(Route::Execute));
        assert_eq!(found(Method::PUT, "/execute"), Ok(Route::Upload));
        assert_eq!(
            found(Method::GET, "/mcp/service/coolify"),
            Ok(Route::Service("coolify".to_owned()))
        );
        assert_eq!(found(Method::HEAD, "/health"), Ok(Route::Health));
        assert_eq!(
            found(Method::DELETE, "/approvals/apr_1"),
            Ok(Route::Withdraw("apr_1".to_owned()))
        );
        for method in [Method::POST, Method::GET, Method::DELETE] {
            assert_eq!(found(method.clone(), "/mcp"), Ok(Route::McpAll));
            let door = Route::Mcp("everything".to_owned());
            assert_eq!(found(method, "/mcp/everything"), Ok(door));
        }
        for (path, door) in [
            (METADATA.to_owned(), Resource::All),
            (format!("{METADATA}/mcp"), Resource::All),
            (
                format!("{METADATA}/mcp/everything"),
                Resource::One("everything".parse().unwrap()),
            ),
        ] {
            assert_eq!(found(Method::GET, &path), Ok(Route::Metadata(door)));
        }
        for path in [
            "/",
            "/mcp/catalog",
            "/mcp/rpc",
            "/mcp/a/b",
            "/execute",
            "/health",
        ] {
            let path = format!("{METADATA}{path}");
            assert_eq!(found(Method::GET, &path), Err(Missing::Path), "{path}");
        }
        for path in [
            "/",
            "//execute",
            "/execute/",
            "/EXECUTE",
            "/mcp/",
            "/mcp/service/",
            "/mcp/service/a/b",
            "/approvals/",
        ] {
            assert_eq!(found(Method::GET, path), Err(Missing::Path), "{path}");
        }
        for (method, path) in [
            (Method::GET, "/execute"),
            (Method::PUT, "/mcp/execute"),
            (Method::POST, "/mcp/catalog"),
            (Method::DELETE, "/mcp/catalog"),
            (Method::POST, "/approvals/apr_1"),
            (Method::OPTIONS, "/mcp/rpc"),
            (Method::PUT, "/mcp/everything"),
            (Method::OPTIONS, "/mcp/everything"),
        ] {
            assert!(
                matches!(found(method, path), Err(Missing::Method { .. })),
                "{path}"
            );
        }
    }
}
