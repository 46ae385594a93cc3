//! The counts that webhook receivers report.

use bytes::Bytes;
use hyper::{Request, Uri};

use crate::Failure;
use crate::client::Client;

/// What all receivers got together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Got {
    /// Messages.
    pub received: u64,
    /// Of these, those that a receiver had not seen before.
    pub distinct: u64,
    /// Those without an id, a signature or a body.
    pub unsigned: u64,
}

impl Got {
    /// What the receivers tell, whose `/told` is at that host and port.
    pub async fn read(from: &Uri) -> Result<Self, Failure> {
        let answer = Client::connect(from).await?.get("/told").await?;
        let text = std::str::from_utf8(answer.body())?;
        let value = |name: &str| -> Result<u64, Failure> {
            let found = text.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            Ok(found.ok_or_else(|| format!("no {name} in {text}"))?.parse()?)
        };
        let (received, distinct) = (value("received")?, value("distinct")?);
        Ok(Self { received, distinct, unsigned: value("unsigned")? })
    }

    /// Makes them begin anew.
    pub async fn forget(at: &Uri) -> Result<(), Failure> {
        let mut client = Client::connect(at).await?;
        let status = client.send(Request::post("/forget"), Bytes::new()).await?.status();
        status.is_success().then_some(()).ok_or_else(|| format!("not forgotten: {status}").into())
    }
}
