//! A ledger in a file, which one process has.

use super::*;
use cloakroom_domain::http::retry_after::RetryAfter;
use cloakroom_domain::pruning::Portion;

#[tokio::test]
async fn a_second_gateway_is_refused_and_pending_migrations_are_named() {
    let place = Place::sqlite();
    let pending = Opening { migrate: false, ..place.opening() };
    let pending = Ledger::open(pending, &Clock::manual(START), &Tasks::new()).await.err().unwrap();
    assert!(matches!(pending, OpenError::MigrationsPending { pending: 1.., .. }), "{pending}");
    let (ledger, tasks) = place.open(START).await;
    let second = Ledger::open(place.opening(), &Clock::manual(START), &Tasks::new()).await;
    let second = second.err().unwrap();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    close(ledger, tasks).await;
}

#[tokio::test]
async fn what_a_former_start_ran_is_known_to_be_dead_and_its_follows_are_due_at_once() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    assert!(ledger.dead_at_open().is_empty());
    for number in [1, 2] {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    claim_one(&ledger, START).await;
    let followed = claim_one(&ledger, START).await;
    let accepted = UpstreamAnswer {
        retry_after: RetryAfter::In(Duration::from_mins(1)),
        monitor: Some(cloakroom_domain::operation::Continuation::monitor("http://up/jobs/1")),
        ..UpstreamAnswer::plain(202)
    };
    let outcome = Outcome::Answered(accepted);
    ledger.settle(outcome_of(followed, &outcome, START)).await.unwrap().unwrap();
    let dead = ledger.incarnation();
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert_eq!(ledger.dead_at_open(), [dead]);
    assert_eq!(ledger.claim_waiting(following(9), START, START + HOUR).await.unwrap().len(), 1);
    close(ledger, tasks).await;
}

#[tokio::test]
async fn pieces_that_nothing_refers_to_go_at_the_next_start() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    let piece = |number| {
        let octets = Bytes::from_static(b"body");
        Piece { body: BodyKey(2), number, octets }
    };
    ledger.stash((0..40).map(piece).collect()).await.unwrap();
    let left = async |ledger: &Ledger| {
        let mut left = 0;
        for number in 0..40 {
            left += u32::from(ledger.piece(BodyKey(2), number).await.unwrap().is_some());
        }
        left
    };
    // No start waits for that, and a further one does not forget it.
    let (mut ledger, mut tasks) = (ledger, tasks);
    for _ in 0..2 {
        close(ledger, tasks).await;
        (ledger, tasks) = place.open(START).await;
        assert_eq!(left(&ledger).await, 40);
    }
    for expected in [24, 8, 0] {
        ledger.prune(9, START).await.unwrap();
        assert_eq!(left(&ledger).await, expected);
    }
    assert_eq!(ledger.prune(9, START).await.unwrap(), Pruned::default());
    close(ledger, tasks).await;
}

#[tokio::test]
async fn what_a_repair_deletes_is_counted_no_more() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    let key = SerialKey { digest: [7; 16], text: "customer-7".into() };
    let keyed = |number| NewOperation { serial_key: Some(key.clone()), ..operation(number, START) };
    let each = operation(1, START).work.octets();
    for new in [operation(1, START), operation(2, START), operation(3, START), keyed(4), keyed(5)] {
        ledger.accept(new).await.unwrap();
    }
    claim_one(&ledger, START).await;
    let counts = || {
        let lanes = ledger.lanes();
        let sum = |of: fn(&LaneDepth) -> u64| lanes.iter().map(of).sum::<u64>();
        (sum(|lane| lane.depth), sum(|lane| lane.stored))
    };
    assert_eq!(counts(), (4, 5 * each));
    // One that runs, one that is ready, and one that waits for a key.
    sql(&place, "DELETE FROM operations WHERE seq IN (1, 2, 5)").await;
    ledger.reconcile(true, START).await.unwrap();
    assert_eq!(counts(), (2, 2 * each));
    close(ledger, tasks).await;
}

/// The octets of the ledger and of the log ahead of it.
fn octets(place: &Place) -> Vec<u8> {
    let Place::File(folder) = place else { panic!("no file") };
    let files = ["cloakroom.db", "cloakroom.db-wal"];
    files.iter().flat_map(|file| std::fs::read(folder.path().join(file)).unwrap()).collect()
}

fn lies_in(octets: &[u8], text: &[u8]) -> bool {
    octets.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn what_was_erased_is_soon_in_neither_the_file_nor_its_log() {
    let place = Place::sqlite();
    let (tasks, clock) = (Tasks::new(), Clock::manual(START));
    let ledger = Ledger::open(place.opening(), &clock, &tasks).await.unwrap();
    for number in 0..=255 {
        let new = operation(number, START);
        let Work::Call(mut request) = new.work.clone() else { panic!("no call") };
        // Long and short ones: some have pages of their own.
        let canary = format!("Bearer canary{}", "x".repeat(usize::from(number) * 40));
        request.credentials.as_map_mut().append("authorization", canary.parse().unwrap());
        request.body = OperationBody::Inline(format!("kept{}", "x".repeat(3000)).into());
        let new = NewOperation { work: Work::Call(request), max_depth: 1000, ..new };
        ledger.accept(new).await.unwrap();
    }
    assert!(lies_in(&octets(&place), b"canary"));
    for _ in 0..=255 {
        let leased = claim_one(&ledger, START).await;
        finish(&ledger, leased, START).await;
    }
    cluster::until("the credentials to go", || {
        clock.advance(Duration::from_secs(1));
        !lies_in(&octets(&place), b"canary")
    });
    // It does not find nothing because there is nothing.
    assert!(lies_in(&octets(&place), b"kept"));
    close(ledger, tasks).await;
}

/// A file system of its own, of 72 MiB; none where mounting one needs more rights than the tests
/// have.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=72m", "tmpfs"]).arg(folder.path());
        let mounted = mount.stderr(std::process::Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(folder))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.0.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut ballast = std::fs::File::create(self.path("ballast")).unwrap();
        for octets in [1 << 20, 4096, 1] {
            while ballast.write_all(&vec![0; octets]).is_ok() {}
        }
        assert_eq!(self.free(), 0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_reserve_whose_place_is_taken_is_made_once_that_is_free() {
    let place = Place::sqlite();
    let Place::File(folder) = &place else { panic!("no file") };
    let (reserve, theirs) =
        (folder.path().join("cloakroom.db.reserve"), folder.path().join("letter"));
    std::fs::write(&theirs, "a letter").unwrap();
    std::os::unix::fs::symlink(&theirs, &reserve).unwrap();
    let (tasks, clock) = (Tasks::new(), Clock::manual(START));
    let ledger = Ledger::open(place.opening(), &clock, &tasks).await.unwrap();
    assert!(matches!(ledger.accept(operation(1, START)).await, Ok(Accepted::New(_))));
    assert!(std::fs::symlink_metadata(&reserve).unwrap().is_symlink());
    std::fs::remove_file(&reserve).unwrap();
    // A file with two names may be another program's.
    std::fs::hard_link(&theirs, &reserve).unwrap();
    close(ledger, tasks).await;
    let (tasks, clock) = (Tasks::new(), Clock::manual(START));
    let ledger = Ledger::open(place.opening(), &clock, &tasks).await.unwrap();
    assert!(matches!(ledger.accept(operation(2, START)).await, Ok(Accepted::New(_))));
    assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "a letter");
    std::fs::remove_file(&reserve).unwrap();
    cluster::until("the reserve", || {
        clock.advance(Duration::from_secs(1));
        std::fs::metadata(&reserve).is_ok_and(|file| file.len() == 8 << 20)
    });
    close(ledger, tasks).await;
}

/// One with so large a body that it takes some pages.
fn large(number: u32) -> NewOperation {
    let mut entropy = [0; 10];
    entropy[6..].copy_from_slice(&number.to_be_bytes());
    let new = operation(1, START);
    let Work::Call(request) = new.work.clone() else { panic!("no call") };
    let body = OperationBody::Inline(vec![b'x'; 200_000].into());
    NewOperation {
        id: OperationId::new(START, 1, entropy),
        work: Work::Call(Request { body, ..request }),
        max_depth: 1_000_000,
        ..new
    }
}

#[tokio::test]
async fn a_disk_that_is_full_to_the_last_page_is_freed_by_retention_alone() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("not run: mounting a small file system needs root");
        return;
    };
    let location = Location::Sqlite { path: disk.path("cloakroom.db"), readers: 2 };
    let opening = Opening { location, ..Place::sqlite().opening() };
    let (clock, tasks) = (Clock::manual(START), Tasks::new());
    let ledger = Ledger::open(opening, &clock, &tasks).await.unwrap();
    let reserve = disk.path("cloakroom.db.reserve");
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 8 << 20);
    // Something else takes room, too.
    let others = disk.path("others");
    std::fs::write(&others, vec![0; 20 << 20]).unwrap();
    let mut number = 0;
    let fill = async |number: &mut u32, at: Timestamp| {
        let mut ended = 0;
        loop {
            *number += 1;
            match ledger.accept(large(*number)).await {
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error, LedgerError::Full), "{error}");
                    return ended;
                }
            }
            let wants = vec![Want { lane: lane(false), limit: 1 }];
            let leased = match ledger.claim(wants, START).await {
                Ok(mut claimed) => claimed.remove(0).leased.remove(0),
                Err(error) => {
                    assert!(matches!(error, LedgerError::Full), "{error}");
                    return ended;
                }
            };
            match ledger.settle(outcome_of(leased, &answered(200), at)).await {
                Ok(settled) => _ = settled.unwrap(),
                Err(error) => {
                    assert!(matches!(error, LedgerError::Full), "{error}");
                    return ended;
                }
            }
            ended += 1;
        }
    };
    let ended = fill(&mut number, START).await;
    assert!(ended > 100, "{ended}");
    disk.fill();
    assert!(matches!(ledger.accept(large(0)).await, Err(LedgerError::Full)));
    let all = async |now| {
        let mut freed = 0;
        loop {
            let pruned = ledger.prune(Portion::default(), now).await.unwrap();
            if pruned == Pruned::default() {
                return freed;
            }
            freed += pruned.results + pruned.operations;
        }
    };
    let pruned = ledger.prune(Portion::default(), START + HOUR).await.unwrap();
    // What the reserve gave up is not for clients.
    let refused = ledger.accept(large(0)).await;
    assert!(matches!(refused, Err(LedgerError::Full)), "{refused:?}");
    assert!(!reserve.exists() && disk.free() > 1 << 20, "{}", disk.free());
    let freed = pruned.results + all(START + HOUR).await;
    assert_eq!(freed, ended);
    // What was freed takes new ones, until it is used up; then it goes on the same way.
    let more = fill(&mut number, START + HOUR).await;
    assert!(more > 50, "{more}");
    assert!(all(START + 2 * HOUR).await >= more);
    assert!(fill(&mut number, START).await > 50);
    // Once there is room, the reserve is back.
    std::fs::remove_file(&others).unwrap();
    all(START + 9 * HOUR).await;
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 8 << 20);
    assert!(matches!(ledger.accept(large(0)).await, Ok(Accepted::New(_))));
    close(ledger, tasks).await;
}

/// Damage that is put right at the start, and what is claimed then of two operations.
#[tokio::test]
async fn rows_that_would_hold_up_others_are_put_right_at_the_start() {
    let twin = "INSERT INTO running (seq, lane, node, since, attempts, resumes, rescues, refusals, token, sequence) \
         SELECT seq, lane, 1, due_at, 1, 0, 0, 0, 1, 2 FROM ready WHERE seq = (SELECT min(seq) FROM ready)";
    for (damage, both) in [
        ("UPDATE ready SET due_at = 'abc' WHERE seq = (SELECT min(seq) FROM ready)", true),
        ("UPDATE ready SET lane = 'abc' WHERE seq = (SELECT min(seq) FROM ready)", false),
        ("UPDATE operations SET octets = 9223372036854775807", true),
        (twin, false),
    ] {
        let place = Place::sqlite();
        let (ledger, tasks) = place.open(START).await;
        let (first, second) = (operation(1, START), operation(2, START));
        let ids = [first.id, second.id];
        ledger.accept(first).await.unwrap();
        ledger.accept(second).await.unwrap();
        close(ledger, tasks).await;
        sql(&place, damage).await;
        let (ledger, tasks) = place.open(START).await;
        let wants = vec![Want { lane: lane(false), limit: 9 }];
        let leased = ledger.claim(wants, START).await.unwrap().remove(0).leased;
        let leased: Vec<_> = leased.iter().map(|it| it.id).collect();
        assert_eq!(leased, ids[usize::from(!both)..], "{damage}");
        close(ledger, tasks).await;
    }
}

#[tokio::test]
async fn an_operation_that_runs_and_lies_in_a_lane_or_says_no_time_holds_up_no_other() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=3 {
        let deadline = START + HOUR * u32::from(number);
        let policy = Policy { deadline_at: deadline, ..operation(number, START).policy };
        ledger.accept(NewOperation { policy, ..operation(number, START) }).await.unwrap();
    }
    sql(
        &place,
        "INSERT INTO running (seq, lane, node, since, attempts, resumes, rescues, refusals, token, sequence) \
         SELECT seq, lane, 1, due_at, 1, 0, 0, 0, 1, 2 FROM ready WHERE seq = (SELECT min(seq) FROM ready)",
    )
    .await;
    sql(&place, "UPDATE ready SET due_at = 'abc' WHERE seq = (SELECT max(seq) FROM ready)").await;
    let late = START + 2 * HOUR;
    let overdue = ledger.overdue(&lane(false), LanePlace::START, 9, late).await.unwrap();
    assert_eq!(overdue.seqs.len(), 2);
    assert!(ledger.oldest_due(&[lane(false)]).await.unwrap()[0].is_some());
    let wants = vec![Want { lane: lane(false), limit: 9 }];
    let claimed = ledger.claim(wants, START).await.unwrap().remove(0);
    let leased: Vec<_> = claimed.leased.iter().map(|it| it.id).collect();
    assert_eq!((leased, claimed.next_due), (vec![operation(2, START).id], None));
    close(ledger, tasks).await;
}

#[tokio::test]
async fn a_page_passes_over_an_operation_whose_id_is_too_short() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=2 {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    sql(&place, "PRAGMA ignore_check_constraints = ON; UPDATE operations SET id = x'0102' WHERE seq = (SELECT max(seq) FROM operations)")
        .await;
    let page = ledger.list(&Listing { limit: 9, ..Listing::default() }).await.unwrap();
    let listed: Vec<_> = page.operations.iter().map(|it| it.id).collect();
    assert_eq!((listed, page.unread.len()), (vec![operation(1, START).id], 1));
    close(ledger, tasks).await;
}
