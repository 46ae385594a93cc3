//! A configuration for tests of this module. It has an upstream, so that a test's text can hold one
//! thing.

use std::collections::BTreeMap;

use super::{Config, ConfigError, LoadedConfig, Overrides, SettingRow};

pub(super) fn load_with(
    text: &str,
    environment: &[(&str, &str)],
) -> Result<LoadedConfig, ConfigError> {
    let upstream = Some("http://localhost:9000".to_owned());
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let overrides = Overrides { upstream, ..Overrides::default() };
    super::read("test.toml", text, environment, overrides)
}

pub(super) fn load(text: &str) -> Result<LoadedConfig, ConfigError> {
    load_with(text, &[])
}

pub(super) fn read(text: &str) -> Config {
    load(text).unwrap().config
}

/// Everything that is wrong with a text, one fault a line.
pub(super) fn faults(text: &str) -> String {
    lines(load(text).expect_err("there is nothing wrong with it"))
}

pub(super) fn lines(error: ConfigError) -> String {
    let ConfigError::Faulty(faults) = error else { panic!("{error}") };
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

pub(super) fn rows(loaded: &LoadedConfig) -> BTreeMap<&str, &SettingRow> {
    loaded.sources.iter().map(|row| (row.key.as_str(), row)).collect()
}
