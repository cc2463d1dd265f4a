//! Stack traces of a real container as one record each, ordinary lines beside them, on a real
//! Docker Engine: the container is killed in the middle of one.

use std::time::Duration;

use serde_json::Value;

mod support;

use support::docker::Docker;
use support::rig::Rig;
use support::{drivers, say, wait_until};

const LONG: Duration = Duration::from_secs(60);
const HEAD: &str = "java.lang.IllegalStateException: ";
/// The last line of a whole trace.
const LAST: &str = "\t... 12 more";
/// Nothing goes out by time.
const HOUR: &str = "3600000";

/// The texts of the records from `source`, in their order.
fn texts(rig: &Rig, source: &str) -> Vec<String> {
    let received = rig.sink.received().concat();
    let lines = received.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let records = lines.map(|line| serde_json::from_slice::<Value>(line).unwrap());
    let texts = records.filter(|record| record[0] == source);
    let texts = texts.map(|record| record[1].as_str().unwrap().to_owned());
    texts.filter(|text| !text.starts_with("@canary")).collect()
}

fn text_of(log: &[u8]) -> String {
    String::from_utf8(log.to_vec()).unwrap()
}

#[test]
fn each_trace_is_one_record_and_the_last_comes_when_its_container_ends() {
    let Some(docker) = Docker::of_host() else { return };
    for io in drivers() {
        let env = [
            ("MULTILINE_PRESET", "java"),
            ("MULTILINE_FLUSH_AFTER", HOUR),
            ("RAW_FORMAT", "[{{toJSON .Source}}, {{toJSON .Data}}]\n"),
        ];
        let mut rig = Rig::start_with("multiline+raw+tcp", &docker, "lct-trace", io, &env);
        let container = rig.run(&[], &["traces", "3", "--prefix", "@trace"]);
        let enough = wait_until(LONG, || texts(&rig, "stderr").len() > 20);
        assert!(enough, "{}", rig.program.stderr());
        docker.run(&["kill", &container.id]);
        let (stdout, stderr) = docker.logs(&container.id);
        let (stdout, stderr) = (text_of(&stdout), text_of(&stderr));
        let all = |source: &str| texts(&rig, source).join("\n") + "\n";
        wait_until(Duration::from_secs(20), || all("stdout") == stdout && all("stderr") == stderr);
        // No line is lost, doubled or moved.
        assert_eq!((all("stdout"), all("stderr")), (stdout.clone(), stderr), "{io}");
        let lines = texts(&rig, "stdout");
        assert_eq!(lines, stdout.lines().collect::<Vec<_>>(), "an ordinary line is alone");
        let traces = texts(&rig, "stderr");
        for (number, trace) in traces.iter().enumerate() {
            let n = format!("{HEAD}@trace {:08}\n", number + 1);
            let last = number + 1 == traces.len();
            assert!(trace.starts_with(n.trim_end()), "{io}: {trace:?}");
            assert_eq!(trace.matches(HEAD).count(), 1, "{io}: {trace:?}");
            assert!(last || trace.ends_with(LAST), "{io}: {trace:?}");
        }
        let cut = traces.last().is_some_and(|trace| !trace.ends_with(LAST));
        rig.end();
        assert_eq!(texts(&rig, "stderr"), traces, "nothing came later");
        let (lines, traces) = (lines.len(), traces.len());
        say(&format!("{io}: {lines} lines, {traces} traces, the last one cut by the end: {cut}"));
    }
}
