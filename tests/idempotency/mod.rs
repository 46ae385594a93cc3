//! Contract section 6: one key, one operation; and how long things last.

mod derived;
mod keys;
mod retention;
