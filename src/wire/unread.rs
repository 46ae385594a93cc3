//! A look at the unread octets of a connection before a request is written to it.

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connection that can be looked at without being read.
pub trait PeekUnread {
    /// Whether octets, its end or an error lie there that were not read yet. The system is asked
    /// each time: the runtime learns of them only when it looks at its sockets.
    fn has_unread(&self) -> bool;
}

impl PeekUnread for TcpStream {
    fn has_unread(&self) -> bool {
        let looked = recv(self, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(looked, Err(Errno::AGAIN | Errno::INTR))
    }
}

impl<T: PeekUnread> PeekUnread for TlsStream<T> {
    fn has_unread(&self) -> bool {
        self.get_ref().0.has_unread()
    }
}

impl<T: PeekUnread> PeekUnread for TokioIo<T> {
    fn has_unread(&self) -> bool {
        self.inner().has_unread()
    }
}

impl<T: PeekUnread> PeekUnread for MaybeHttpsStream<T> {
    fn has_unread(&self) -> bool {
        match self {
            Self::Http(stream) => stream.has_unread(),
            Self::Https(stream) => stream.has_unread(),
        }
    }
}
