//! The configuration reader: settings by name, with precedence, sources and faults.
//!
//! Owns precedence (flag, then environment, then file, then default), the list of what
//! was found where, and the faults. Its invariant: every setting that a section asks
//! for makes one row, and every other key is a fault. It must not know which settings exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use super::{
    ConfigFault, SettingRow, SettingSource,
    raw_value::{LocatedValue, RawTable, RawValue},
    setting::Setting,
};

const PREFIX: &str = "CLOAKROOM_";

/// One reading of a configuration, from its three sources to rows and faults.
#[derive(Debug, Default)]
pub(super) struct ConfigReader {
    file: RawTable,
    environment: BTreeMap<String, String>,
    /// By dotted key: the flag and its text.
    flags: BTreeMap<&'static str, (&'static str, String)>,
    /// Variables that a setting has, present or not.
    variables: BTreeSet<String>,
    /// Variables that a value of the file takes its text from.
    borrowed: BTreeSet<String>,
    sections: Vec<&'static str>,
    rows: Vec<SettingRow>,
    faults: Vec<ConfigFault>,
    doubts: Vec<ConfigFault>,
    strays: Vec<UnknownKey>,
}

/// A key of the file that no section asked for.
#[derive(Debug)]
struct UnknownKey {
    /// The table it stands in; empty at the top.
    path: String,
    key: String,
    source: SettingSource,
    /// The keys that the section knows.
    known: Vec<&'static str>,
}

impl ConfigReader {
    pub(super) fn new(file: RawTable, environment: impl Iterator<Item = (String, String)>) -> Self {
        Self {
            file,
            // An empty variable is what compose files make of an unset one.
            environment: environment.filter(|(_, value)| !value.is_empty()).collect(),
            ..Self::default()
        }
    }

    /// A flag that sets the setting `dotted`, where it was given.
    pub(super) fn flag(&mut self, dotted: &'static str, flag: &'static str, text: Option<String>) {
        if let Some(text) = text {
            self.flags.insert(dotted, (flag, text));
        }
    }

    /// Reads one section; keys that `read` did not ask for are faults.
    pub(super) fn section<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let table = self.tables_of(name);
        self.table(name.to_owned(), table, read)
    }

    /// Takes a whole section that holds tables by name.
    pub(super) fn named_tables(&mut self, name: &'static str) -> BTreeMap<String, RawTable> {
        let mut tables = BTreeMap::new();
        for (key, located) in self.tables_of(name) {
            let dotted = format!("{name}.{key}");
            if let Err(says) = check_name(&key) {
                self.fault(dotted.clone(), located.source.clone(), says);
            }
            let table = self.as_table(&dotted, located);
            tables.insert(key, table);
        }
        tables
    }

    /// Takes a list of tables, `[[name]]`.
    pub(super) fn listed_tables(&mut self, name: &'static str) -> Vec<RawTable> {
        self.sections.push(name);
        let Some(LocatedValue { given, source }) = self.file.remove(name) else {
            return Vec::new();
        };
        match given {
            RawValue::Tables(located) => {
                let table = |(index, located)| self.as_table(&format!("{name}[{index}]"), located);
                located.into_iter().enumerate().map(table).collect()
            }
            RawValue::List(items) if items.is_empty() => Vec::new(),
            _ => {
                self.fault(name, source, format!("write each of them as a [[{name}]] section"));
                Vec::new()
            }
        }
    }

    /// Reads one table that stands at `path`.
    pub(super) fn table<T>(
        &mut self,
        path: String,
        table: RawTable,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let mut section = Section { reading: self, path, table, known: Vec::new() };
        let value = read(&mut section);
        section.finish();
        value
    }

    fn tables_of(&mut self, name: &'static str) -> RawTable {
        self.sections.push(name);
        match self.file.remove(name) {
            Some(located) => self.as_table(name, located),
            None => RawTable::new(),
        }
    }

    fn as_table(&mut self, dotted: &str, located: LocatedValue) -> RawTable {
        if let RawValue::Table(table) = located.given {
            return table;
        }
        let says = format!("expected a [{dotted}] section, found {}", located.given.kind());
        self.fault(dotted, located.source, says);
        RawTable::new()
    }

    /// Names of tables of a section that only the environment speaks of, through the
    /// variable of `key`: `CLOAKROOM_UPSTREAMS_ORDERS_URL` names `orders`.
    pub(super) fn named_by_environment(&self, section: &str, key: &str) -> Vec<String> {
        let start = format!("{}_", variable(section));
        let end = format!("_{}", key.to_uppercase());
        let name =
            |set: &String| Some(set.strip_prefix(&start)?.strip_suffix(&end)?.to_lowercase());
        self.environment.keys().filter_map(name).filter(|name| !name.is_empty()).collect()
    }

    /// Whether a flag sets this setting.
    pub(super) fn has_flag(&self, dotted: &str) -> bool {
        self.flags.contains_key(dotted)
    }

    /// The value of a setting from a flag or, failing that, from the environment.
    fn overriding(&mut self, dotted: &str) -> Option<LocatedValue> {
        // Lists have no names that a variable could carry.
        let set = if dotted.contains('[') {
            None
        } else {
            let variable = variable(dotted);
            self.variables.insert(variable.clone());
            self.environment
                .get(&variable)
                .map(|text| loose(text.clone(), SettingSource::Environment(variable.clone())))
        };
        let flag = self.flags.get(dotted);
        flag.map(|(flag, text)| loose(text.clone(), SettingSource::Flag(flag))).or(set)
    }

    /// The text of a variable that a value of the file names with `env:`.
    pub(super) fn borrow_variable(&mut self, name: &str) -> Option<String> {
        self.borrowed.insert(name.to_owned());
        self.environment.get(name).cloned()
    }

    /// Adds a fault.
    pub(super) fn fault(
        &mut self,
        key: impl Into<String>,
        source: SettingSource,
        says: impl Into<String>,
    ) {
        self.faults.push(ConfigFault { key: key.into(), source, says: says.into() });
    }

    /// Adds a fault about a setting that has been read: it stands where the setting does.
    pub(super) fn fault_about(&mut self, key: impl Into<String>, says: impl Into<String>) {
        let key = key.into();
        let row = self.rows.iter().find(|row| row.key == key);
        let source = row.map_or(SettingSource::Default, |row| row.source.clone());
        self.fault(key, source, says);
    }

    /// Adds a doubt about a setting that has been read: it can be used, and hardly does what its
    /// author means.
    pub(super) fn doubt_about(&mut self, key: impl Into<String>, says: impl Into<String>) {
        let key = key.into();
        let row = self.rows.iter().find(|row| row.key == key);
        let source = row.map_or(SettingSource::Default, |row| row.source.clone());
        self.doubts.push(ConfigFault { key, source, says: says.into() });
    }

    /// The same, where the setting does not have its default.
    pub(super) fn doubt_set(&mut self, key: &str, says: impl Into<String>) {
        let is_set = |row: &SettingRow| row.key == key && row.source != SettingSource::Default;
        if self.rows.iter().any(is_set) {
            self.doubt_about(key, says);
        }
    }

    /// The doubts so far.
    pub(super) fn take_doubts(&mut self) -> Vec<ConfigFault> {
        std::mem::take(&mut self.doubts)
    }

    /// Adds a row.
    pub(super) fn row(
        &mut self,
        key: impl Into<String>,
        value: impl Into<String>,
        source: SettingSource,
    ) {
        self.rows.push(SettingRow { key: key.into(), value: value.into(), source });
    }

    /// Ends the reading: keys that no section asked for are faults too.
    pub(super) fn finish(mut self) -> Result<Vec<SettingRow>, Vec<ConfigFault>> {
        for (key, located) in std::mem::take(&mut self.file) {
            let (path, known) = (String::new(), self.sections.clone());
            self.strays.push(UnknownKey { path, key, source: located.source, known });
        }
        for stray in std::mem::take(&mut self.strays) {
            let says = self.unknown(&stray);
            let dotted = [&*stray.path, &*stray.key].join(".");
            self.fault(dotted.trim_start_matches('.'), stray.source, says);
        }
        let strays: Vec<_> = self.environment.keys().filter(|name| self.is_stray(name)).collect();
        let says = |name: &str| match self.variable_meant(name) {
            Some(meant) => format!("there is no such variable; did you mean {meant}?"),
            None => "there is no such variable; `cloakroom config print` lists the settings, \
                         and server.max_body is CLOAKROOM_SERVER_MAX_BODY"
                .to_owned(),
        };
        let stray = |name: &String| ConfigFault {
            key: String::new(),
            source: SettingSource::Environment(name.clone()),
            says: says(name),
        };
        let strays: Vec<_> = strays.into_iter().map(stray).collect();
        self.faults.extend(strays);
        if self.faults.is_empty() { Ok(self.rows) } else { Err(self.faults) }
    }

    /// The message about an unknown key: it names the nearest known key, here or elsewhere.
    fn unknown(&self, stray: &UnknownKey) -> String {
        let UnknownKey { path, key, known, .. } = stray;
        let what = if path.is_empty() { "section" } else { "setting" };
        let near = nearest(key, known.iter().copied());
        let elsewhere = match near {
            Some(_) => self.elsewhere(|_, joined| joined == key),
            None => self.elsewhere(|own, joined| joined == key || own == key),
        };
        if let Some(dotted) = elsewhere {
            let (section, own) = dotted.rsplit_once('.').unwrap_or(("", dotted));
            return format!("there is no such {what} here; did you mean {own} in [{section}]?");
        }
        match near {
            Some(near) => format!("there is no such {what}; did you mean {near}?"),
            None => format!("there is no such {what}; known here: {}", known.join(", ")),
        }
    }

    /// The variable that is meant by an unknown one: of the setting that has this name without its
    /// section, else the nearest, else of a setting whose own name it is.
    fn variable_meant(&self, name: &str) -> Option<String> {
        let bare = name.strip_prefix(PREFIX)?;
        let rest = bare.to_lowercase();
        let without = |section: &&str| rest.strip_prefix(section)?.strip_prefix('_');
        let meant = self.sections.iter().find_map(without).unwrap_or(&rest);
        let elsewhere = self.elsewhere(|_, joined| joined == meant);
        let known = self.variables.iter().filter_map(|known| known.strip_prefix(PREFIX));
        let near = || nearest(bare, known).map(|near| format!("{PREFIX}{near}"));
        let own = || self.elsewhere(|own, _| own == meant).map(variable);
        elsewhere.map(variable).or_else(near).or_else(own)
    }

    /// The setting, of all that were asked for, that is meant by the last part of its name or
    /// by its whole name with `_` between.
    fn elsewhere(&self, is_meant: impl Fn(&str, &str) -> bool) -> Option<&str> {
        let names = self.rows.iter().map(|row| row.key.as_str());
        // A list or a name of the user's own is no useful suggestion.
        let mut plain =
            names.filter(|dotted| !dotted.contains('[') && dotted.split('.').count() == 2);
        plain.find(|dotted| {
            let own = dotted.rsplit('.').next().unwrap_or_default();
            is_meant(own, &dotted.replace('.', "_"))
        })
    }

    fn is_stray(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(PREFIX) else { return false };
        // Kubernetes sets these in every container beside a Service called `cloakroom`.
        let links = rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
        let of_a_command = name == super::listen_command::SECRETS;
        !links && !of_a_command && !self.variables.contains(name) && !self.borrowed.contains(name)
    }
}

/// One table that is being read.
pub(super) struct Section<'r> {
    pub(super) reading: &'r mut ConfigReader,
    path: String,
    table: RawTable,
    known: Vec<&'static str>,
}

impl Section<'_> {
    /// The dotted name of a key of this table.
    pub(super) fn dotted(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// Whether the file, or a flag in its place, has this key.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Adds a fault about a key of this table that has been read.
    pub(super) fn fault_about(&mut self, key: &str, says: impl Into<String>) {
        let dotted = self.dotted(key);
        self.reading.fault_about(dotted, says);
    }

    /// A setting, or its default.
    pub(super) fn get<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.checked(key, default, |_| Ok(()))
    }

    /// A setting that lies between two bounds.
    pub(super) fn within<T: Setting + PartialOrd>(
        &mut self,
        key: &'static str,
        default: T,
        bounds: RangeInclusive<T>,
    ) -> T {
        self.read_by(key, default, |given| T::read_within(given, &bounds))
    }

    /// A setting with a rule of its own.
    pub(super) fn checked<T: Setting>(
        &mut self,
        key: &'static str,
        default: T,
        check: impl Fn(&T) -> Result<(), String>,
    ) -> T {
        self.read_by(key, default, |given| {
            let value = T::read(given)?;
            check(&value).map(|()| value)
        })
    }

    fn read_by<T: Setting>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl Fn(&RawValue) -> Result<T, String>,
    ) -> T {
        let dotted = self.dotted(key);
        let (value, source) = match self.find(key) {
            None => (default, SettingSource::Default),
            Some(LocatedValue { given, source }) => {
                let value = read(&given).unwrap_or_else(|says| {
                    self.reading.fault(dotted.clone(), source.clone(), says);
                    default
                });
                (value, source)
            }
        };
        self.reading.row(dotted, value.show(), source);
        value
    }

    /// A setting without a default; a fault says what to write where it is missing.
    pub(super) fn required<T: Setting>(&mut self, key: &'static str, says: &str) -> Option<T> {
        let faults = self.reading.faults.len();
        let value = self.get::<Option<T>>(key, None);
        if value.is_none() && self.reading.faults.len() == faults {
            let dotted = self.dotted(key);
            self.reading.fault(dotted, SettingSource::Default, format!("is missing; {says}"));
        }
        value
    }

    /// A table inside this one. Without it, `read` finds only defaults.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let table = self.entries(key);
        let path = self.dotted(key);
        self.reading.table(path, table, read)
    }

    /// Takes a table inside this one whose keys the user chooses.
    pub(super) fn entries(&mut self, key: &'static str) -> RawTable {
        self.known.push(key);
        let dotted = self.dotted(key);
        match self.table.remove(key) {
            Some(located) => self.reading.as_table(&dotted, located),
            None => RawTable::new(),
        }
    }

    fn find(&mut self, key: &'static str) -> Option<LocatedValue> {
        self.known.push(key);
        let in_file = self.table.remove(key);
        let dotted = self.dotted(key);
        self.reading.overriding(&dotted).or(in_file)
    }

    fn finish(self) {
        for (key, located) in self.table {
            let (path, known) = (self.path.clone(), self.known.clone());
            self.reading.strays.push(UnknownKey { path, key, source: located.source, known });
        }
    }
}

fn loose(text: String, source: SettingSource) -> LocatedValue {
    LocatedValue { given: RawValue::Loose(text), source }
}

/// The environment variable of a setting: `server.max_body` is `CLOAKROOM_SERVER_MAX_BODY`.
pub(super) fn variable(dotted: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    PREFIX.chars().chain(dotted.chars().map(letter)).collect()
}

/// Names of upstreams, queues and routes end up in logs, metrics and URLs.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err("a name has 1 to 64 letters, digits, `-`, `_` or `.`".to_owned())
}

/// The known name that is most similar to `key`.
pub(super) fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(key, name);
    let near = known.min_by_key(distance)?;
    (distance(&near) <= 2.max(key.len() / 3)).then_some(near)
}
