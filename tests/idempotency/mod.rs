//! Contract section 6: one operation for each key, and retention.

mod derived;
mod keys;
mod retention;
