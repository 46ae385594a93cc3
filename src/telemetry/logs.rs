//! Log lines: to the standard error output, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging as configured; does nothing if logging has been started before.
pub fn start(config: &LogConfig) {
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured())
        .with_env_filter(EnvFilter::builder().parse_lossy(&config.filter));
    // An error means that somebody logs already.
    let _ = if is_json(config.format, terminal) {
        lines.json().flatten_event(true).with_ansi(false).try_init()
    } else {
        lines.try_init()
    };
}

/// On a terminal, unless whoever sits there wants none (`NO_COLOR`).
fn is_coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unless_told_people_get_text_and_everything_else_gets_json() {
        assert!(!is_json(LogFormat::Auto, true));
        assert!(is_json(LogFormat::Auto, false));
        assert!(is_json(LogFormat::Json, true));
        assert!(!is_json(LogFormat::Text, false));
    }

    #[test]
    fn logging_can_be_started_twice() {
        let config = LogConfig { filter: "off".to_owned(), format: LogFormat::Auto };
        start(&config);
        start(&config);
    }
}
