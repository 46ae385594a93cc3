//! Points in time and time spans as command line arguments: `2h`, or an instant.

use std::time::Duration;

use cloakroom_domain::Timestamp;

/// An instant in RFC 3339 of what was given: that already, or how long ago.
pub(super) fn instant(given: &str, now: Timestamp) -> Result<String, String> {
    if let Ok(instant) = given.parse::<jiff::Timestamp>() {
        return Ok(instant.to_string());
    }
    let ago = span(given).ok_or_else(|| {
        format!(
            "`{given}`: write how long ago, like 90s, 15m, 2h or 7d, or an instant \
                           like 2026-11-21T08:00:00Z"
        )
    })?;
    Ok((now - ago).rfc3339())
}

/// A span of whole seconds, minutes, hours or days: `90s`, `15m`, `2h`, `7d`.
pub(super) fn span(given: &str) -> Option<Duration> {
    let seconds = match given.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u32 = given[..given.len() - 1].parse().ok()?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_is_counted_back_from_now() {
        let now = Timestamp::EPOCH + Duration::from_hours(240);
        assert_eq!(instant("2h", now).unwrap(), "1970-01-10T22:00:00.000000Z");
        assert_eq!(instant("7d", now).unwrap(), "1970-01-04T00:00:00.000000Z");
    }

    #[test]
    fn an_instant_stays_what_it_is() {
        let given = "2026-11-21T08:00:00Z";
        assert_eq!(instant(given, Timestamp::EPOCH).unwrap(), given);
        let given = "2026-11-21T09:00:00+01:00";
        assert_eq!(instant(given, Timestamp::EPOCH).unwrap(), "2026-11-21T08:00:00Z");
    }

    #[test]
    fn everything_else_is_refused_with_examples() {
        for given in ["", "h", "-1h", "2w", "yesterday", "1ü"] {
            assert!(instant(given, Timestamp::EPOCH).unwrap_err().contains("15m"), "{given}");
        }
    }
}
