//! Log lines on standard error, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, log_directives};

/// Starts logging as configured; does nothing if logging has been started before.
pub fn start(config: &LogConfig) {
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured())
        .with_env_filter(EnvFilter::builder().parse_lossy(directives(&config.filter)));
    // An error means that another subscriber logs already.
    let _ = if is_json(config.format, terminal) {
        lines.json().flatten_event(true).with_ansi(false).try_init()
    } else {
        lines.try_init()
    };
}

/// The database driver tells much of what the ledger tells better: it is silent unless the
/// filter names it. A blank before a directive would become a part of its target.
fn directives(filter: &str) -> String {
    std::iter::once("sqlx=off").chain(log_directives(filter)).collect::<Vec<_>>().join(",")
}

/// On a terminal, unless `NO_COLOR` is set.
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
    fn the_driver_is_silent_unless_the_filter_names_it() {
        let is_heard = |filter: &str, target: &'static str| {
            let filter = EnvFilter::builder().parse_lossy(directives(filter)).to_string();
            let mut of_target: Vec<_> = filter
                .split(',')
                .filter(|directive| {
                    directive.split('=').next().is_some_and(|it| target.starts_with(it))
                })
                .collect();
            of_target.sort_by_key(|directive| directive.split('=').next().map(str::len));
            !of_target.last().is_some_and(|directive| directive.ends_with("off"))
        };
        assert!(!is_heard("info", "sqlx::query") && !is_heard("trace", "sqlx_core::pool"));
        assert!(is_heard("info,sqlx=debug", "sqlx::query"));
        assert!(is_heard("warn,sqlx::query=info", "sqlx::query"));
        assert!(is_heard("warn, sqlx=info", "sqlx::query"));
    }

    #[test]
    fn logging_can_be_started_twice() {
        let config = LogConfig { filter: "off".to_owned(), format: LogFormat::Auto };
        start(&config);
        start(&config);
    }
}
