//! Signing keys: generated or read from a request, sealed for the ledger, and shown.

use super::WebhookSettings;
use super::document::{KeyDocument, SecretDocument};
use crate::api::Problem;
use crate::api::json_object::JsonObject;
use cloakroom_domain::sealing::SealingError;
use cloakroom_domain::webhooks::secret_storage::{self, SecretOwner};
use cloakroom_domain::webhooks::{PublicKey, SigningKey};
use cloakroom_domain::{Principal, Timestamp};
use cloakroom_ledger::{KeyKind, NewKey};
use serde_json::{Value, json};

/// So many keys of one owner may sign at once.
pub(super) const MOST: usize = 5;

/// The members of a request about a new key.
pub(super) struct KeyRequest {
    kind: Option<KeyKind>,
    brought: Option<SigningKey>,
}

impl KeyRequest {
    /// Reads `signature` and `secret`.
    pub(super) fn read(members: &mut JsonObject) -> Result<Self, Problem> {
        let kind = match members.text("signature")?.present() {
            None => None,
            Some(name) => Some(KeyKind::named(&name).ok_or_else(|| {
                let detail = "signature is v1 (HMAC-SHA256) or v1a (Ed25519)";
                Problem::malformed_body(Some("signature"), detail)
            })?),
        };
        let brought = match members.text("secret")?.present() {
            None => None,
            Some(text) => Some(SigningKey::parse(&text).map_err(|bad| {
                Problem::malformed_body(Some("secret"), format!("the secret cannot be used: {bad}"))
            })?),
        };
        let kinds = (kind, brought.as_ref().map(kind_of));
        if let (Some(kind), Some(other)) = kinds
            && kind != other
        {
            let detail = format!("this secret is for {}, not {}", other.as_str(), kind.as_str());
            return Err(Problem::malformed_body(Some("secret"), detail));
        }
        Ok(Self { kind, brought })
    }

    /// The kind that was said, or that of the key that was brought.
    pub(super) fn kind(&self) -> Option<KeyKind> {
        self.kind.or_else(|| self.brought.as_ref().map(kind_of))
    }

    /// The key that was brought, else a new one.
    pub(super) fn key(self, usual: KeyKind) -> Result<SigningKey, Problem> {
        let kind = self.kind().unwrap_or(usual);
        self.brought.map_or_else(|| made(kind), Ok)
    }

    /// The key that is wished for; where no kind is said, a new one of each that is usual.
    pub(super) fn keys(self, usual: &[KeyKind]) -> Result<Vec<SigningKey>, Problem> {
        match self.kind() {
            Some(kind) => Ok(vec![self.key(kind)?]),
            None => usual.iter().map(|kind| made(*kind)).collect(),
        }
    }
}

pub(super) fn kind_of(key: &SigningKey) -> KeyKind {
    match key {
        SigningKey::Secret(_) => KeyKind::V1,
        SigningKey::Pair(_) => KeyKind::V1a,
    }
}

/// A new key.
pub(super) fn made(kind: KeyKind) -> Result<SigningKey, Problem> {
    secret_storage::new_key(kind == KeyKind::V1a, rand::random()).map_err(|error| {
        tracing::error!(%error, "a signing key could not be generated");
        Problem::internal()
    })
}

/// A key as the ledger keeps it.
pub(super) fn sealed(
    settings: &WebhookSettings,
    whose: SecretOwner<'_>,
    key: &SigningKey,
) -> Result<NewKey, Problem> {
    let sealed = secret_storage::seal_key(&settings.keyring, whose, key, rand::random());
    Ok(NewKey { kind: kind_of(key), sealed: sealed.map_err(|error| unreadable(&error))?.into() })
}

/// Both keys that a principal's first callback makes.
pub fn callback_keys(
    settings: &WebhookSettings,
    principal: &Principal,
) -> Result<Vec<NewKey>, Problem> {
    let key = |kind| sealed(settings, SecretOwner::Callbacks(principal), &made(kind)?);
    KeyKind::BOTH.into_iter().map(key).collect()
}

/// The secrets of new keys, shown this once to the caller that asked for them: at most one of
/// each kind.
pub(super) fn secret(keys: &[SigningKey]) -> SecretDocument {
    let mut document = SecretDocument { secret: None, public_key: None };
    for key in keys {
        match key {
            SigningKey::Secret(secret) => document.secret = Some(secret.reveal().to_string()),
            SigningKey::Pair(pair) => document.public_key = Some(pair.public().to_string()),
        }
    }
    document
}

/// The keys that sign at that time.
pub(super) fn live(
    keys: Vec<cloakroom_ledger::StoredKey>,
    now: Timestamp,
) -> Vec<cloakroom_ledger::StoredKey> {
    keys.into_iter().filter(|key| is_live(key, now)).collect()
}

/// Whether a key signs at that time.
pub(super) fn is_live(key: &cloakroom_ledger::StoredKey, now: Timestamp) -> bool {
    key.retires_at.is_none_or(|end| end > now)
}

/// The half of a key that anybody may know; none of a shared secret.
pub(super) fn public(
    settings: &WebhookSettings,
    whose: SecretOwner<'_>,
    key: &cloakroom_ledger::StoredKey,
) -> Result<Option<PublicKey>, Problem> {
    if key.kind == KeyKind::V1 {
        return Ok(None);
    }
    let opened = secret_storage::open_key(&settings.keyring, whose, &key.sealed)
        .map_err(|error| unreadable(&error))?;
    Ok(secret_storage::public_half(&opened))
}

/// Keys as they are shown.
pub(super) fn shown(
    settings: &WebhookSettings,
    whose: SecretOwner<'_>,
    keys: &[cloakroom_ledger::StoredKey],
) -> Result<Vec<KeyDocument>, Problem> {
    let document = |key: &cloakroom_ledger::StoredKey| {
        let public = public(settings, whose, key)?;
        Ok(KeyDocument::of(key, public.as_ref()))
    };
    keys.iter().map(document).collect()
}

/// The problem of a stored secret that cannot be opened: the operator has to act.
pub(super) fn unreadable(error: &SealingError) -> Problem {
    tracing::error!(%error, "a stored secret cannot be used");
    Problem::internal()
}

/// A secret that is brought, as a schema.
pub(super) fn secret_schema() -> Value {
    json!({
        "type": ["string", "null"], "pattern": SECRETS,
        "description": "A secret to sign with, whsec_… of 24 to 64 bytes, or a key pair, \
                        whsk_…; a new one is made without it.",
    })
}

/// That a secret which is brought is of the kind that is asked for, as schemas.
pub(super) fn prefixes() -> Value {
    let of = |kind: &str, prefix: &str| {
        json!({
            "if": { "properties": { "signature": { "const": kind } }, "required": ["signature"] },
            "then": { "properties": { "secret": { "pattern": prefix } } },
        })
    };
    json!([of("v1", "^whsec_"), of("v1a", "^whsk_")])
}

/// A secret of 24 to 64 bytes; a pair, as its seed or with its public half behind it.
const SECRETS: &str = concat!(
    "^(whsec_([A-Za-z0-9+/]{4}){8,20}([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?|[A-Za-z0-9+/][AQgw](==)?)?",
    "|whsec_([A-Za-z0-9+/]{4}){21}[A-Za-z0-9+/][AQgw](==)?",
    "|whsk_([A-Za-z0-9+/]{4}){10}[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?",
    "|whsk_([A-Za-z0-9+/]{4}){21}[A-Za-z0-9+/][AQgw](==)?)$",
);
