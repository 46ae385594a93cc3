//! The request fields that do not identify a user.
//!
//! Owns the list. Its invariant: a field that a proxy sets to name a user is never in it. It must not
//! know how a field is used.

use super::hygiene::as_read;

/// Fields that clients set, and proxies at most add to, or that belong to answers.
const FIELDS: [&str; 87] = [
    "a-im",
    "accept",
    "accept-charset",
    "accept-datetime",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "alt-used",
    "authentication-info",
    "baggage",
    "cache-control",
    "cdn-loop",
    "cookie",
    "cookie2",
    "correlation-id",
    "date",
    "depth",
    "destination",
    "device-memory",
    "digest",
    "dnt",
    "dpr",
    "downlink",
    "early-data",
    "ect",
    "etag",
    "expires",
    "forwarded",
    "from",
    "http2-settings",
    "if",
    "keep-alive",
    "last-event-id",
    "last-modified",
    "link",
    "location",
    "lock-token",
    "max-forwards",
    "mime-version",
    "origin",
    "overwrite",
    "pragma",
    "prefer",
    "priority",
    "range",
    "referer",
    "repr-digest",
    "refresh",
    "request-id",
    "retry-after",
    "rtt",
    "save-data",
    "server",
    "server-timing",
    "service-worker",
    "set-cookie",
    "set-cookie2",
    "signature",
    "signature-input",
    "slug",
    "timeout",
    "traceparent",
    "tracestate",
    "upgrade-insecure-requests",
    "user-agent",
    "vary",
    "via",
    "viewport-width",
    "want-content-digest",
    "want-repr-digest",
    "warning",
    "width",
    "www-authenticate",
    "x-correlation-id",
    "x-csrf-token",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-request-id",
    "x-requested-with",
    "x-rewrite-url",
    "x-wap-profile",
    "x-xsrf-token",
];

/// What whole families of them begin with.
const FAMILIES: [&str; 7] =
    ["access-control-", "content-", "if-", "proxy-", "sec-", "x-b3-", "x-original-forwarded-"];

/// Of `X-Forwarded-…` those that say where a request came from; others may name a user.
const FORWARDED: [&str; 12] = [
    "by",
    "client-ip",
    "for",
    "host",
    "path",
    "port",
    "prefix",
    "proto",
    "protocol",
    "scheme",
    "server",
    "ssl",
];

/// Whether a field, in any spelling that some server takes for it, holds what a client says.
pub fn is_anonymous(name: &str) -> bool {
    let name = &*as_read(name);
    let forwarded = name.strip_prefix("x-forwarded-");
    FIELDS.contains(&name)
        || FAMILIES.iter().any(|family| name.starts_with(family))
        || forwarded.is_some_and(|of| FORWARDED.contains(&of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_client_says_of_something_else_is_known() {
        for name in [
            "user-agent",
            "prefer",
            "referer",
            "origin",
            "accept",
            "accept-language",
            "accept-encoding",
            "content-type",
            "content-language",
            "cache-control",
            "if-none-match",
            "range",
            "sec-fetch-site",
            "sec-ch-ua",
            "access-control-request-method",
            "x-requested-with",
            "x-forwarded-for",
            "x-forwarded-port",
            "traceparent",
            "date",
            "from",
            "proxy-authorization",
            "set-cookie",
            "location",
            "retry-after",
            "etag",
            "user_agent",
            "x_forwarded_for",
            "sec_fetch-site",
            "x.request.id",
            "traceparent",
        ] {
            assert!(is_anonymous(name), "{name}");
        }
    }

    #[test]
    fn what_a_proxy_sets_to_name_a_user_is_not() {
        for name in [
            "x-user",
            "x-forwarded-user",
            "x-forwarded-email",
            "x-forwarded-preferred-username",
            "x-forwarded-client-cert",
            "x-forwarded-access-token",
            "x-auth-request-email",
            "x-real-ip",
            "remote-user",
            "x-goog-authenticated-user-email",
            "x-amzn-oidc-identity",
            "tailscale-user-login",
            "cf-access-authenticated-user-email",
            "x-ssl-client-s-dn",
            "client-cert",
            "x-tenant",
        ] {
            assert!(!is_anonymous(name), "{name}");
        }
    }
}
