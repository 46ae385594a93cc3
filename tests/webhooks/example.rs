/// Whether a delivery is to be believed.
pub fn verified(secret: &str, fields: &http::HeaderMap, body: &[u8]) -> bool {
    standardwebhooks::Webhook::new(secret).is_ok_and(|hook| hook.verify(body, fields).is_ok())
}
