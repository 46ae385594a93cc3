//! Contract section 2: what a 202 says, and what is checked before it is given.

mod answer;
mod limits;
mod options;
mod own;
mod principals;
mod uploads;
mod urls;
