//! The environment variables of `cloakroom listen`. They are no settings of a gateway, which ignores
//! them.

/// The secrets to verify with, blanks between them.
pub(super) const SECRETS: &str = "CLOAKROOM_LISTEN_SECRET";

/// The secrets to verify with, as they were written.
pub fn listen_secrets(environment: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut set = environment.filter(|(name, _)| name == SECRETS).map(|(_, value)| value);
    let text = set.next().unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::load_with;
    use super::*;

    #[test]
    fn a_secret_to_listen_with_is_read_by_who_listens_and_left_alone_by_a_gateway() {
        let secrets = |text: &str| {
            let variables = [("PATH", "/bin"), (SECRETS, text)];
            listen_secrets(variables.map(|(name, text)| (name.into(), text.into())).into_iter())
        };
        assert_eq!(secrets(" whsec_one\nwhsec_two "), ["whsec_one", "whsec_two"]);
        assert!(secrets("").is_empty() && listen_secrets(std::iter::empty()).is_empty());
        assert!(load_with("", &[(SECRETS, "whsec_one")]).is_ok());
        assert!(load_with("", &[("CLOAKROOM_LISTEN_SECRETS", "whsec_one")]).is_err());
    }
}
