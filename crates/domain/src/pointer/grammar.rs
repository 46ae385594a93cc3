//! The grammar of JSON (RFC 8259), followed octet by octet.
//!
//! Owns which octets may come next, wherever the text is cut into pieces. Its invariants: each octet is
//! looked at once; an open container takes one bit of memory. It must not know which values are wanted.

/// The text is not JSON: this octet, counted from 0, is the first that cannot be where it is, or the
/// text ends there too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson(pub(super) usize);

/// The kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonKind {
    Object,
    Array,
    Scalar,
}

/// What the parts of a text are told to, in their order.
pub(super) trait JsonListener {
    /// A value begins.
    fn begin(&mut self, kind: JsonKind);
    /// Octets of a scalar, as they are written.
    fn scalar(&mut self, part: &[u8]);
    /// The scalar is over.
    fn scalar_ends(&mut self);
    /// Octets of a member's name, with its quotation marks.
    fn name(&mut self, part: &[u8]);
    /// The name is over; its value begins next.
    fn name_ends(&mut self);
    /// The innermost open array or object is over.
    fn close(&mut self);
}

/// The place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrammarPosition {
    /// Before a value.
    Value,
    /// Before the first element of an array, or its end.
    FirstElement,
    /// Before the first name of an object, or its end.
    FirstName,
    /// Before another name.
    Name,
    /// Behind a name.
    Colon,
    /// Behind a value.
    Behind,
    /// In a string.
    Text { is_name: bool, inside: StringPosition },
    /// In a number.
    Number(NumberPosition),
    /// In `true`, `false` or `null`; the octets that are left.
    Word(&'static [u8]),
}

/// The place in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StringPosition {
    Plain,
    /// Behind a backslash.
    Escape,
    /// So many hexadecimal digits are to come.
    Hex(u8),
}

/// The place in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberPosition {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

/// What is open, a bit for each level: set for an object.
#[derive(Debug, Default)]
struct OpenContainers {
    words: Vec<u64>,
    depth: usize,
}

impl OpenContainers {
    fn push(&mut self, is_object: bool) {
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if word == self.words.len() {
            self.words.push(0);
        }
        if is_object {
            self.words[word] |= bit;
        } else {
            self.words[word] &= !bit;
        }
        self.depth += 1;
    }

    /// Whether the innermost is an object; none where nothing is open.
    fn is_object(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.words[last / 64] & (1 << (last % 64)) != 0)
    }
}

/// A text on its way.
#[derive(Debug)]
pub(super) struct JsonGrammar {
    at: GrammarPosition,
    open: OpenContainers,
    /// How many octets were read.
    read: usize,
}

impl JsonGrammar {
    /// Before the first octet.
    pub(super) fn new() -> Self {
        Self { at: GrammarPosition::Value, open: OpenContainers::default(), read: 0 }
    }

    /// Follows the next octets.
    pub(super) fn feed(
        &mut self,
        octets: &[u8],
        listener: &mut impl JsonListener,
    ) -> Result<(), NotJson> {
        let mut rest = octets;
        while !rest.is_empty() {
            let read = match self.at {
                GrammarPosition::Text { is_name, inside } => {
                    self.text(rest, (is_name, inside), listener)
                }
                GrammarPosition::Number(digits) => self.number(rest, digits, listener),
                GrammarPosition::Word(left) => self.word(rest, left, listener),
                _ => self.between(rest, listener),
            };
            // Each of them counts from where it begins.
            let read = read.map_err(|NotJson(at)| NotJson(self.read + at))?;
            self.read += read;
            rest = &rest[read..];
        }
        Ok(())
    }

    /// The text is over.
    pub(super) fn end(mut self, listener: &mut impl JsonListener) -> Result<(), NotJson> {
        if let GrammarPosition::Number(digits) = self.at {
            self.number_ends(digits, listener).ok_or(NotJson(self.read))?;
        }
        let is_whole = self.at == GrammarPosition::Behind && self.open.depth == 0;
        if is_whole { Ok(()) } else { Err(NotJson(self.read)) }
    }

    /// Blanks, and the octet behind them.
    fn between(
        &mut self,
        octets: &[u8],
        listener: &mut impl JsonListener,
    ) -> Result<usize, NotJson> {
        let mut blanks = 0;
        while blanks < octets.len() && matches!(octets[blanks], b' ' | b'\t' | b'\n' | b'\r') {
            blanks += 1;
        }
        let Some(octet) = octets.get(blanks) else { return Ok(blanks) };
        match (self.at, octet) {
            (GrammarPosition::FirstElement, b']') | (GrammarPosition::FirstName, b'}') => {
                self.close(listener);
            }
            (GrammarPosition::Value | GrammarPosition::FirstElement, _) => {
                self.value(*octet, listener).ok_or(NotJson(blanks))?;
            }
            (GrammarPosition::FirstName | GrammarPosition::Name, b'"') => {
                listener.name(b"\"");
                self.at = GrammarPosition::Text { is_name: true, inside: StringPosition::Plain };
            }
            (GrammarPosition::Colon, b':') => self.at = GrammarPosition::Value,
            (GrammarPosition::Behind, _) => match (self.open.is_object(), octet) {
                (Some(true), b'}') | (Some(false), b']') => self.close(listener),
                (Some(true), b',') => self.at = GrammarPosition::Name,
                (Some(false), b',') => self.at = GrammarPosition::Value,
                _ => return Err(NotJson(blanks)),
            },
            _ => return Err(NotJson(blanks)),
        }
        Ok(blanks + 1)
    }

    /// The first octet of a value; none where no value begins with it.
    fn value(&mut self, octet: u8, listener: &mut impl JsonListener) -> Option<()> {
        let (kind, at) = match octet {
            b'{' => (JsonKind::Object, GrammarPosition::FirstName),
            b'[' => (JsonKind::Array, GrammarPosition::FirstElement),
            b'"' => (
                JsonKind::Scalar,
                GrammarPosition::Text { is_name: false, inside: StringPosition::Plain },
            ),
            b'-' => (JsonKind::Scalar, GrammarPosition::Number(NumberPosition::Minus)),
            b'0' => (JsonKind::Scalar, GrammarPosition::Number(NumberPosition::Zero)),
            b'1'..=b'9' => (JsonKind::Scalar, GrammarPosition::Number(NumberPosition::Whole)),
            b't' => (JsonKind::Scalar, GrammarPosition::Word(b"rue")),
            b'f' => (JsonKind::Scalar, GrammarPosition::Word(b"alse")),
            b'n' => (JsonKind::Scalar, GrammarPosition::Word(b"ull")),
            _ => return None,
        };
        listener.begin(kind);
        match kind {
            JsonKind::Scalar => listener.scalar(&[octet]),
            JsonKind::Object => self.open.push(true),
            JsonKind::Array => self.open.push(false),
        }
        self.at = at;
        Some(())
    }

    fn close(&mut self, listener: &mut impl JsonListener) {
        self.open.depth -= 1;
        self.at = GrammarPosition::Behind;
        listener.close();
    }

    fn text(
        &mut self,
        octets: &[u8],
        (is_name, mut inside): (bool, StringPosition),
        listener: &mut impl JsonListener,
    ) -> Result<usize, NotJson> {
        let mut read = 0;
        let mut is_over = false;
        while read < octets.len() && !is_over {
            let octet = octets[read];
            read += 1;
            is_over = (inside, octet) == (StringPosition::Plain, b'"');
            inside = inside.behind(octet).ok_or(NotJson(read - 1))?;
        }
        let part = &octets[..read];
        if is_name {
            listener.name(part);
        } else {
            listener.scalar(part);
        }
        self.at = match (is_over, is_name) {
            (false, _) => GrammarPosition::Text { is_name, inside },
            (true, true) => GrammarPosition::Colon,
            (true, false) => GrammarPosition::Behind,
        };
        match (is_over, is_name) {
            (false, _) => {}
            (true, true) => listener.name_ends(),
            (true, false) => listener.scalar_ends(),
        }
        Ok(read)
    }

    fn number(
        &mut self,
        octets: &[u8],
        mut digits: NumberPosition,
        listener: &mut impl JsonListener,
    ) -> Result<usize, NotJson> {
        let mut read = 0;
        while let Some(next) = octets.get(read).and_then(|octet| digits.behind(*octet)) {
            digits = next;
            read += 1;
        }
        listener.scalar(&octets[..read]);
        self.at = GrammarPosition::Number(digits);
        if read < octets.len() {
            self.number_ends(digits, listener).ok_or(NotJson(read))?;
        }
        Ok(read)
    }

    /// The end of a number; none where it is not whole.
    fn number_ends(
        &mut self,
        digits: NumberPosition,
        listener: &mut impl JsonListener,
    ) -> Option<()> {
        if !digits.are_whole() {
            return None;
        }
        listener.scalar_ends();
        self.at = GrammarPosition::Behind;
        Some(())
    }

    fn word(
        &mut self,
        octets: &[u8],
        left: &'static [u8],
        listener: &mut impl JsonListener,
    ) -> Result<usize, NotJson> {
        let read = left.len().min(octets.len());
        if let Some(other) = octets.iter().zip(left).position(|(octet, wanted)| octet != wanted) {
            return Err(NotJson(other));
        }
        listener.scalar(&octets[..read]);
        self.at = GrammarPosition::Word(&left[read..]);
        if read == left.len() {
            listener.scalar_ends();
            self.at = GrammarPosition::Behind;
        }
        Ok(read)
    }
}

impl StringPosition {
    /// The place behind one more octet of a string, its last quotation mark too; none where a
    /// string has no such octet.
    const fn behind(self, octet: u8) -> Option<Self> {
        Some(match (self, octet) {
            (Self::Plain, b'\\') => Self::Escape,
            (Self::Escape, b'u') => Self::Hex(4),
            (Self::Hex(left @ 2..), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => Self::Hex(left - 1),
            (Self::Plain, 0x20..)
            | (Self::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
            | (Self::Hex(1), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => Self::Plain,
            _ => return None,
        })
    }
}

impl NumberPosition {
    /// The place behind one more octet, if that belongs to the number.
    const fn behind(self, octet: u8) -> Option<Self> {
        Some(match (self, octet) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, b'0'..=b'9') => Self::Power,
            _ => return None,
        })
    }

    /// Whether the number may end here.
    const fn are_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Power)
    }
}
