//! Webhooks: signatures, where they may go, and what becomes of an attempt.

mod receiving;
