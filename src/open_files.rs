//! The limit of open files.
//!
//! Owns raising the limit, how many connections it leaves room for, and telling a shortage of this
//! process from a fault of its peers. It must not know which code opens files.

use std::error::Error;
use std::fs::File;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The errors of a system that has no more files for this process, or for any.
const SHORTAGES: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
/// Where the operators' listener gets its connections from, as a part of all, and at least.
const OPERATORS: (usize, usize) = (8, 4);

/// Raises the limit as far as this process may, and says what it is; none: there is no limit.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            current
        }
    }
}

/// How many connections each listener may have open at once; none: as many as come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// For clients.
    pub public: Option<usize>,
    /// For operators, who get in however many clients there are.
    pub admin: Option<usize>,
}

/// The places that a limit of open files leaves room for, where the process itself needs `own`
/// and `wanted` were asked for. Each connection may need another one to an upstream. A limit
/// that is too low for all of it is halved between the process and its connections.
pub fn connection_limits(limit: Option<u64>, own: u64, wanted: Option<usize>) -> ConnectionLimits {
    let Some(limit) = limit else { return ConnectionLimits { public: wanted, admin: wanted } };
    let room = limit.saturating_sub(own).max(limit / 2) / 2;
    let room = usize::try_from(room).unwrap_or(usize::MAX).max(2);
    let admin = (room / OPERATORS.0).max(OPERATORS.1).min(room / 2);
    let at_most = |most: usize| Some(wanted.map_or(most, |wanted| wanted.min(most)));
    ConnectionLimits { public: at_most(room - admin), admin: at_most(admin) }
}

/// Whether an error says that this process, or this machine, has no more files, and so says
/// nothing of the other side.
pub fn are_short(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let code = error.downcast_ref::<io::Error>().and_then(Errno::from_io_error);
        if let Some(code) = code {
            return SHORTAGES.contains(&code);
        }
        next = error.source();
    }
    // The lookup of a name does not hand the system's error on.
    File::open("/dev/null").is_err_and(|error| {
        Errno::from_io_error(&error).is_some_and(|code| SHORTAGES.contains(&code))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_the_process_itself_leaves_each_with_one_to_an_upstream() {
        let limits = |limit, wanted| {
            let ConnectionLimits { public, admin } = connection_limits(limit, 500, wanted);
            (public, admin)
        };
        assert_eq!(limits(Some(1_048_576), Some(4096)), (Some(4096), Some(4096)));
        assert_eq!(limits(Some(1_048_576), Some(100)), (Some(100), Some(100)));
        assert_eq!(limits(Some(8500), Some(4096)), (Some(3500), Some(500)));
        assert_eq!(limits(Some(8500), None), (Some(3500), Some(500)));
        assert_eq!(limits(None, Some(4096)), (Some(4096), Some(4096)));
        assert_eq!(limits(None, None), (None, None));
    }

    #[test]
    fn however_low_the_limit_clients_and_operators_have_places() {
        for limit in [0, 1, 64, 500, 1024] {
            let ConnectionLimits { public, admin } =
                connection_limits(Some(limit), 500, Some(4096));
            let (public, admin) = (public.unwrap(), admin.unwrap());
            assert!(public >= 1 && admin >= 1, "{limit}");
            assert!(limit < 8 || 2 * (public + admin) as u64 <= limit, "{limit}");
        }
    }

    #[test]
    fn a_shortage_is_told_from_what_others_did_wrong() {
        #[derive(Debug, thiserror::Error)]
        #[error("not connected")]
        struct Wrapped(#[source] io::Error);
        let wrapped = |code: Errno| Wrapped(code.into());
        for code in SHORTAGES {
            assert!(are_short(&wrapped(code)), "{code}");
        }
        for code in [Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::HOSTUNREACH] {
            assert!(!are_short(&wrapped(code)), "{code}");
        }
        assert!(!are_short(&Wrapped(io::Error::other("no such name"))));
    }
}
