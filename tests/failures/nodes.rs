//! The nodes of a fleet, each of which can be killed, stopped and replaced.
//!
//! Owns who runs and where clients knock. It must not know why anybody is replaced.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::support::Setup;
use crate::support::gateway::Process;

/// A front, by its command.
pub const FRONT: &[&str] = &["serve", "--role", "front"];
/// A worker.
pub const WORKER: &[&str] = &["worker"];
/// Both in one.
pub const BOTH: &[&str] = &["serve"];

/// Where clients may knock now, one for each node that answers them. Clones share it.
#[derive(Clone, Default)]
pub struct Doors(Arc<Mutex<Vec<Option<SocketAddr>>>>);

impl Doors {
    /// The door whose turn it is.
    pub fn of_turn(&self, turn: usize) -> Option<SocketAddr> {
        let doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<_> = doors.iter().flatten().collect();
        (!open.is_empty()).then(|| *open[turn % open.len()])
    }

    /// Clients are told not to knock there.
    pub fn close(&self, number: usize) {
        self.set(number, None);
    }

    fn set(&self, number: usize, address: Option<SocketAddr>) {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if doors.len() <= number {
            doors.resize(number + 1, None);
        }
        doors[number] = address;
    }
}

/// A fleet whose nodes are numbered.
pub struct Nodes {
    setup: Setup,
    commands: Vec<Vec<String>>,
    running: Vec<Process>,
    pub doors: Doors,
}

impl Nodes {
    /// Starts one after the other.
    pub async fn start(setup: Setup, commands: &[&[&str]]) -> Self {
        let mut nodes =
            Self { setup, commands: Vec::new(), running: Vec::new(), doors: Doors::default() };
        for (number, command) in commands.iter().enumerate() {
            let process = nodes.setup_of(number).spawn_as(command).await;
            nodes.add(process, command);
        }
        nodes
    }

    /// The setup of a node. Each number has a public address of its own: where clients still
    /// knock at the port of a killed node, no listener of another node may have that port.
    fn setup_of(&self, number: usize) -> Setup {
        let host = u8::try_from(number + 2).expect("a fleet has few nodes");
        self.setup.clone().listen_on(&format!("{}:0", Ipv4Addr::new(127, 0, 0, host)))
    }

    /// Takes in a node that was started otherwise.
    pub fn add(&mut self, process: Process, command: &[&str]) {
        let number = self.running.len();
        self.commands.push(command.iter().map(|&word| word.to_owned()).collect());
        self.running.push(process);
        self.open(number);
    }

    pub fn len(&self) -> usize {
        self.running.len()
    }

    pub fn node(&self, number: usize) -> &Process {
        &self.running[number]
    }

    /// `kill -9`, and another one in its place.
    pub async fn kill(&mut self, number: usize) {
        self.running[number].kill().await;
        // Clients find it gone before anybody tells them where the next one is.
        self.replace(number).await;
    }

    /// Ends one well, and then puts another one in its place.
    pub async fn restart(&mut self, number: usize) {
        self.running[number].signal("TERM").await;
        let ended = self.running[number].ended().await;
        assert!(ended.success(), "{ended}: {}", self.running[number].stderr());
        self.replace(number).await;
    }

    /// Puts another one in the place of one that is gone.
    pub async fn replace(&mut self, number: usize) {
        let command: Vec<&str> = self.commands[number].iter().map(String::as_str).collect();
        self.running[number] = self.setup_of(number).spawn_as(&command).await;
        self.open(number);
    }

    /// Clients may knock there, if it answers any.
    pub fn open(&self, number: usize) {
        let answers = self.commands[number].first().is_some_and(|word| word == "serve");
        self.doors.set(number, answers.then_some(self.running[number].public));
    }
}
