//! The error codes of delivery attempts.
//!
//! Owns the closed list: the codes stand in the ledger, in the API and in metrics, and never change
//! their meaning.

use std::fmt;

/// Why an attempt did not bring a 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryError {
    /// The URL may not be used any more, as things are configured now.
    RefusedUrl,
    /// The host is, or stands for, an address that may not be dialled.
    RefusedAddress,
    /// The name could not be looked up, or stands for nothing.
    Unresolvable,
    /// No connection: refused, unreachable.
    ConnectFailed,
    /// No connection within the time of an attempt.
    ConnectTimeout,
    /// The TLS handshake broke off.
    TlsFailed,
    /// The certificate is not trusted, not valid now, or for another name.
    CertificateInvalid,
    /// The connection ended before the head of an answer had come.
    Reset,
    /// What came is not HTTP.
    Protocol,
    /// Connected, but no head of an answer within the time of an attempt.
    Timeout,
    /// 3xx: never followed.
    Redirected,
    /// 410: nothing is wanted there any more.
    Gone,
    /// Any other status than 2xx.
    Status,
}

impl DeliveryError {
    /// All of them, in the order in which an attempt can meet them.
    pub const ALL: [Self; 13] = [
        Self::RefusedUrl,
        Self::RefusedAddress,
        Self::Unresolvable,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::TlsFailed,
        Self::CertificateInvalid,
        Self::Reset,
        Self::Protocol,
        Self::Timeout,
        Self::Redirected,
        Self::Gone,
        Self::Status,
    ];

    /// The code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RefusedUrl => "refused-url",
            Self::RefusedAddress => "refused-address",
            Self::Unresolvable => "unresolvable",
            Self::ConnectFailed => "connect-failed",
            Self::ConnectTimeout => "connect-timeout",
            Self::TlsFailed => "tls-failed",
            Self::CertificateInvalid => "certificate-invalid",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Redirected => "redirected",
            Self::Gone => "gone",
            Self::Status => "status",
        }
    }

    /// The error of that code.
    pub fn named(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.as_str() == code)
    }

    /// What a status says about an attempt; nothing is wrong with a 2xx.
    pub const fn of_status(status: u16) -> Option<Self> {
        match status {
            200..=299 => None,
            300..=399 => Some(Self::Redirected),
            410 => Some(Self::Gone),
            _ => Some(Self::Status),
        }
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_names_its_error() {
        for error in DeliveryError::ALL {
            assert_eq!(DeliveryError::named(error.as_str()), Some(error));
        }
        assert_eq!(DeliveryError::named("Reset"), None);
    }

    #[test]
    fn only_2xx_is_success() {
        for (status, error) in [
            (200, None),
            (204, None),
            (299, None),
            (301, Some(DeliveryError::Redirected)),
            (304, Some(DeliveryError::Redirected)),
            (400, Some(DeliveryError::Status)),
            (410, Some(DeliveryError::Gone)),
            (503, Some(DeliveryError::Status)),
            (600, Some(DeliveryError::Status)),
        ] {
            assert_eq!(DeliveryError::of_status(status), error, "{status}");
        }
    }
}
