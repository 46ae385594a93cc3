//! The declaration of statements, by which the tests find every one.
//!
//! A file declares its statements in one block, as raw strings. The suite prepares each on the
//! backends that it is for: a file that is named after a backend, or lies below its folder, is of
//! that backend alone. Another test holds that no statement stands anywhere else.

/// Declares the statements of a file, as constants.
macro_rules! statements {
    ($($(#[$doc:meta])* $visibility:vis $kind:ident $name:ident: $type:ty = $value:expr;)*) => {
        $($(#[$doc])* $visibility $kind $name: $type = $value;)*

        /// Every statement of this file.
        #[cfg(test)]
        pub(crate) static STATEMENTS: $crate::db::statements::Declared =
            $crate::db::statements::Declared { file: file!(), all: &[$(&$name),*] };
    };
}
pub(crate) use statements;

/// The statements of a file.
#[cfg(test)]
pub(crate) struct Declared {
    /// Where it lies in the workspace.
    pub(crate) file: &'static str,
    /// Each of them, or what makes some.
    pub(crate) all: &'static [&'static dyn Texts],
}

/// A backend, in whose words a statement is asked for.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// A statement in each of its forms.
#[cfg(test)]
pub(crate) trait Texts: Sync {
    /// All that it may be put to that backend as; nothing where it is of another.
    fn texts(&self, backend: Backend) -> Vec<String>;
}

#[cfg(test)]
impl Texts for &'static str {
    fn texts(&self, _backend: Backend) -> Vec<String> {
        vec![(*self).to_owned()]
    }
}

#[cfg(test)]
impl<T: Texts, const N: usize> Texts for [T; N] {
    fn texts(&self, backend: Backend) -> Vec<String> {
        self.iter().flat_map(|each| each.texts(backend)).collect()
    }
}

/// The statements of a table, behind its name.
#[cfg(test)]
impl<T: Texts> Texts for (&'static str, T) {
    fn texts(&self, backend: Backend) -> Vec<String> {
        self.1.texts(backend)
    }
}

/// The same for two of them.
#[cfg(test)]
impl<T: Texts> Texts for (&'static str, T, T) {
    fn texts(&self, backend: Backend) -> Vec<String> {
        [self.1.texts(backend), self.2.texts(backend)].concat()
    }
}
