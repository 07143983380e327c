//! Many known sessions in a state directory whose emulator is down: for tests, and for the benchmark of many sessions.

use std::fs;
use std::path::Path;

/// The id of a session that [`known`] makes.
pub fn seeded(number: u32) -> String {
    format!("seeded-{number:033}")
}

/// Makes `count` more stopped sessions with storage, as copies of one that is there.
pub fn known(home: &Path, count: u32) {
    let state = rusqlite::Connection::open(home.join("state.db")).unwrap();
    let added = state.execute(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
         INSERT INTO sessions (runtime, endpoint, session, arn, version, state, created_at,
             last_activity_at, last_end, storage, storage_version, mount_path)
         SELECT runtime, endpoint, printf('seeded-%033d', n), arn, version, 'stopped', created_at,
             last_activity_at, 'requested', 1, version, mount_path
         FROM (SELECT * FROM sessions WHERE storage IS NOT NULL LIMIT 1), numbers",
        [count],
    );
    assert_eq!(added.unwrap(), usize::try_from(count).unwrap());
    let row = "SELECT runtime FROM sessions LIMIT 1";
    let runtime: String = state.query_row(row, [], |r| r.get(0)).unwrap();
    for number in 1..=count {
        let data = format!("storage/{runtime}/DEFAULT/{}/1/data", seeded(number));
        fs::create_dir_all(home.join(data)).unwrap();
    }
}
