//! Contract section 2: the content of a 202, and the checks before it.

mod answer;
mod gateway_responses;
mod limits;
mod options;
mod principals;
mod uploads;
mod urls;
