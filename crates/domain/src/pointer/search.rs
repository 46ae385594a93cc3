//! The search for the values of pointers in one text.
//!
//! Owns which values lie on a pointer's path. Its invariants: values beside all paths cost only
//! counting, and no more of a name or value is kept than can matter.

use super::grammar::{JsonKind, JsonListener};
use super::{LONGEST, Pointers};

/// What stands at the end of a way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReferencedValue {
    /// A scalar, as it is written.
    Scalar(Vec<u8>),
    /// A scalar longer than [`LONGEST`].
    TooLong,
    /// An array or an object.
    NotScalar,
}

/// An open array or object on a way.
#[derive(Debug)]
struct Level {
    node: usize,
    /// The number of the next element.
    index: usize,
    is_array: bool,
}

/// The search through one text.
#[derive(Debug)]
pub(super) struct PointerSearch<'p> {
    pointers: &'p Pointers,
    levels: Vec<Level>,
    /// How many arrays and objects are open beside the ways.
    beside: usize,
    /// The node of the member whose name was read last.
    named: Option<usize>,
    /// The node whose scalar is being read.
    reading: Option<usize>,
    octets: Vec<u8>,
    found: Vec<(usize, ReferencedValue)>,
}

impl<'p> PointerSearch<'p> {
    pub(super) const fn new(pointers: &'p Pointers) -> Self {
        Self {
            pointers,
            levels: Vec::new(),
            beside: 0,
            // The whole text is where all ways begin.
            named: Some(0),
            reading: None,
            octets: Vec::new(),
            found: Vec::new(),
        }
    }

    /// What was found, each with its node.
    pub(super) fn into_found(self) -> Vec<(usize, ReferencedValue)> {
        self.found
    }

    /// The node of the value that begins.
    fn next(&mut self) -> Option<usize> {
        match self.levels.last_mut() {
            Some(level) if level.is_array => {
                level.index += 1;
                self.pointers.element(level.node, level.index - 1)
            }
            _ => self.named.take(),
        }
    }

    /// Of members with one name the last counts: whatever an earlier one had is forgotten.
    fn forget(&mut self, node: usize) {
        let Self { pointers, found, .. } = self;
        found.retain(|(other, _)| !pointers.is_within(*other, node));
    }

    fn keep(&mut self, part: &[u8], most: usize) {
        let room = (most + 1).saturating_sub(self.octets.len());
        self.octets.extend_from_slice(&part[..part.len().min(room)]);
    }
}

impl JsonListener for PointerSearch<'_> {
    fn begin(&mut self, kind: JsonKind) {
        let node = if self.beside == 0 { self.next() } else { None };
        if let Some(node) = node {
            self.forget(node);
        }
        match (kind, node) {
            (JsonKind::Scalar, node) => {
                self.reading = node.filter(|node| self.pointers.is_end(*node));
                self.octets.clear();
            }
            (_, None) => self.beside += 1,
            (_, Some(node)) => {
                if self.pointers.is_end(node) {
                    self.found.push((node, ReferencedValue::NotScalar));
                }
                if self.pointers.goes_on(node) {
                    self.levels.push(Level { node, index: 0, is_array: kind == JsonKind::Array });
                } else {
                    self.beside += 1;
                }
            }
        }
    }

    fn scalar(&mut self, part: &[u8]) {
        if self.reading.is_some() {
            self.keep(part, LONGEST);
        }
    }

    fn scalar_ends(&mut self) {
        if let Some(node) = self.reading.take() {
            let octets = std::mem::take(&mut self.octets);
            let is_long = octets.len() > LONGEST;
            self.found.push((
                node,
                if is_long { ReferencedValue::TooLong } else { ReferencedValue::Scalar(octets) },
            ));
        }
    }

    fn name(&mut self, part: &[u8]) {
        if self.beside == 0 {
            self.keep(part, self.pointers.longest_name());
        }
    }

    fn name_ends(&mut self) {
        let name = std::mem::take(&mut self.octets);
        self.named = match self.levels.last() {
            Some(level) if self.beside == 0 => self.pointers.member(level.node, &name),
            _ => None,
        };
        // Its room is used again for the next one.
        self.octets = name;
        self.octets.clear();
    }

    fn close(&mut self) {
        match self.beside.checked_sub(1) {
            Some(fewer) => self.beside = fewer,
            None => drop(self.levels.pop()),
        }
    }
}
