//! Command errors and their exit codes.

use std::process::ExitCode;

use super::http::HttpError;
use super::print;
use crate::app::StartError;
use crate::config::ConfigError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// It is configured wrongly.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It was asked wrongly.
    #[error("{0}")]
    Usage(String),
    /// The gateway did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something else did not work; the text says what to do next.
    #[error("{0}")]
    Failed(String),
    /// What was wrong has been printed as the result.
    #[error("")]
    Told,
    /// The reader of the output is gone, so nothing more can be printed.
    #[error("")]
    OutputClosed,
}

impl From<HttpError> for CommandError {
    fn from(error: HttpError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl CommandError {
    /// Tells it on the standard error output; returns the exit code.
    pub(super) fn tell(&self) -> ExitCode {
        match self {
            Self::Told => {}
            Self::OutputClosed => return ExitCode::SUCCESS,
            _ => {
                // Nowhere is left to say that this could not be said.
                let _ = print::complain(&format!("error: {self}"));
            }
        }
        self.code()
    }

    fn code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_or_configured_wrongly_is_2_and_everything_else_1() {
        let unreadable = crate::config::Config::from_toml("a = 1").unwrap_err();
        assert_eq!(CommandError::from(unreadable).code(), ExitCode::from(2));
        assert_eq!(CommandError::Usage(String::new()).code(), ExitCode::from(2));
        assert_eq!(CommandError::Failed(String::new()).code(), ExitCode::from(1));
        assert_eq!(CommandError::Told.code(), ExitCode::from(1));
    }
}
