//! Traces as the languages write them, among ordinary lines: each is one record, and nothing else
//! is joined.

use proptest::prelude::*;

use super::super::group::{Group, Grouper, Joint, Mark};
use super::{Preset, Tracer};

/// The records that come of `lines`.
fn joined<'a>(preset: Preset, lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let joint = Joint { separator: (*b"\n").into(), bytes_max: 1 << 20, lines_max: 10_000 };
    let (mut tracer, mut grouper) = (Tracer::new(preset), Grouper::default());
    let mut records = Vec::new();
    let mut take = |group: Group<'_>| {
        let text = String::from_utf8_lossy(group.text);
        records.push(text.strip_suffix('\n').unwrap().to_owned());
    };
    for line in lines {
        let line = format!("{line}\n");
        let mark = tracer.mark(line.as_bytes());
        grouper.push(line.as_bytes(), mark, (0, 0), &joint, &mut take);
    }
    grouper.flush(&joint, &mut take);
    records
}

/// Each of `records` comes out as it is when all of them are written one after the other; also with
/// the line ends of Windows.
fn whole(preset: Preset, records: &[&str]) {
    let lines = || records.iter().flat_map(|record| record.split('\n'));
    assert_eq!(joined(preset, lines()), records);
    let ends: Vec<String> = lines().map(|line| format!("{line}\r")).collect();
    let expected: Vec<String> = records.iter().map(|r| r.replace('\n', "\r\n") + "\r").collect();
    assert_eq!(joined(preset, ends.iter().map(String::as_str)), expected);
}

#[test]
fn java() {
    whole(
        Preset::Java,
        &[
            "2024-05-06 07:08:09,123 INFO  [main] c.a.Main - started",
            "2024-05-06 07:08:10,001 ERROR [http-nio-8080-exec-1] c.a.Api - request failed",
            "java.lang.IllegalStateException: could not open order 17
\tat com.acme.Orders.open(Orders.java:42)
\tat com.acme.Api.lambda$get$0(Api.java:17) ~[app.jar:1.4.2]
\tat java.base/java.util.Optional.map(Optional.java:260)
\tSuppressed: java.io.IOException: close failed
\t\tat com.acme.Pool.close(Pool.java:9)
\t\t... 3 more
Caused by: java.sql.SQLException: connection refused
\tat org.postgresql.Driver.connect(Driver.java:297)
\tat app//com.acme.Native.call(Native Method)
\t... 12 more
Caused by: java.net.ConnectException: Connection refused (Connection refused)
\tat java.base/sun.nio.ch.Net.pollConnect(Native Method)
\t... 14 common frames omitted",
            "2024-05-06 07:08:10,002 INFO  [main] c.a.Main - going on",
            "{",
            "  \"pretty\": \"json\",",
            "  \"at\": 5",
            "}",
            "Exception in thread \"main\" java.lang.StackOverflowError
\tat com.acme.Deep.dive(Deep.java:3)
\tat com.acme.Deep.dive(Deep.java:3)",
            "com.acme.Failure: a name that says nothing of what it is
\tat com.acme.Main.main(Main.java:5)",
            "javax.validation.ConstraintViolationException: 2 violations:
\tname must not be empty
\tage must be positive
\tat com.acme.Check.all(Check.java:88)",
            "Exception in thread \"worker\" java.lang.RuntimeException: cyclic
\tat com.acme.A.b(A.java:1)
Caused by: java.lang.RuntimeException: other
\tat com.acme.C.d(C.java:2)
\t[CIRCULAR REFERENCE: java.lang.RuntimeException: cyclic]",
            "last",
        ],
    );
}

#[test]
fn python() {
    whole(
        Preset::Python,
        &[
            "INFO:root:started",
            "  indented, but of no trace",
            "ERROR:root:failed",
            "Traceback (most recent call last):
  File \"/app/main.py\", line 10, in <module>
    main()
  File \"/app/main.py\", line 6, in main
    return 1 / 0
           ~~^~~
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"/app/main.py\", line 12, in <module>
    raise RuntimeError(\"wrapped\")
RuntimeError: wrapped

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File \"/app/main.py\", line 14, in <module>
    recurse(0)
  [Previous line repeated 996 more times]
app.main.<locals>.Error: last",
            "",
            "INFO:root:going on",
            "Traceback (most recent call last):
  File \"/app/plain.py\", line 3, in <module>
    raise KeyboardInterrupt
KeyboardInterrupt",
            "  File \"/app/broken.py\", line 1
    print(
         ^
SyntaxError: '(' was never closed",
            "2024-05-06 07:08:09 ERROR worker Traceback (most recent call last):
  File \"/app/model.py\", line 5, in <module>
    Model(**data)
pydantic.error_wrappers.ValidationError: 1 validation error for Model
  value is not a valid integer (type=type_error.integer)",
            "  + Exception Group Traceback (most recent call last):
  |   File \"/app/group.py\", line 2, in <module>
  |     raise ExceptionGroup(\"several\", [ValueError(1), TypeError(\"x\")])
  | ExceptionGroup: several (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +---------------- 2 ----------------
    | TypeError: x
    +------------------------------------",
            "INFO:root:the end",
        ],
    );
}

#[test]
fn go() {
    whole(
        Preset::Go,
        &[
            "2024/05/06 07:08:09 listening on :8080",
            "panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48d5f5]

goroutine 1 [running]:
main.(*Server).handle(0xc00001c0c0, {0x4b8a20, 0xc000012345})
\t/src/server.go:42 +0x1d
main.main()
\t/src/main.go:7 +0x25

goroutine 18 [select, 3 minutes]:
net/http.(*persistConn).readLoop(0xc0000a2000)
\t/usr/local/go/src/net/http/transport.go:2205 +0xd9
created by net/http.(*Transport).dialConn in goroutine 1
\t/usr/local/go/src/net/http/transport.go:1777 +0x16f1",
            "exit status 2",
            "",
            "2024/05/06 07:08:11 http: panic serving 127.0.0.1:53412: boom
goroutine 34 [running]:
net/http.(*conn).serve.func1()
\t/usr/local/go/src/net/http/server.go:1868 +0xb9
panic({0x6a8d20?, 0x7583f0?})
\t/usr/local/go/src/runtime/panic.go:920 +0x270",
            "2024/05/06 07:08:12 (still) serving (on port 8080)",
            "panic: first [recovered]
\tpanic: second

goroutine 1 [running]:
main.main.func1()
\t/src/main.go:9 +0x65
...additional frames elided...
created by main.main
\t/src/main.go:8 +0x2a",
            "fatal error: all goroutines are asleep - deadlock!

goroutine 1 [chan receive]:
main.main()
\t/src/main.go:5 +0x2f",
            "exit status 2",
            "SIGQUIT: quit
PC=0x46c3a1 m=0 sigcode=0

goroutine 0 [idle]:
runtime.futex(0x5529e8, 0x80, 0x0, 0x0, 0x0, 0x0)
\t/usr/local/go/src/runtime/sys_linux_amd64.s:557 +0x21

rax    0xca
rbx    0x0
rip    0x46c3a1",
            "runtime: goroutine stack exceeds 1000000000-byte limit
sp=0xc0200e0390 stack=[0xc0200e0000, 0xc0400e0000]
fatal error: stack overflow

runtime stack:
runtime.throw({0x497d8b?, 0x0?})
\t/usr/local/go/src/runtime/panic.go:1077 +0x5c",
            "started again",
        ],
    );
}

#[test]
fn dotnet() {
    whole(
        Preset::Dotnet,
        &[
            "Application started. Press Ctrl+C to shut down.",
            "Unhandled exception. System.InvalidOperationException: outer
 ---> System.ArgumentNullException: Value cannot be null. (Parameter 'x')
   at App.Program.Parse(String x) in /src/Program.cs:line 12
   at App.Program.Run() in /src/Program.cs:line 5
   --- End of inner exception stack trace ---
   at App.Program.Run() in /src/Program.cs:line 9
--- End of stack trace from previous location ---
   at App.Program.Main(String[] args) in /src/Program.cs:line 3",
            "fail: Microsoft.AspNetCore.Server.Kestrel[13]
      Connection id \"0HM\", Request id \"0HM:00000002\": An unhandled exception was thrown.
      System.NotSupportedException: no
         at App.Api.Get() in /src/Api.cs:line 8
         at lambda_method(Closure , Object )",
            "info: Microsoft.Hosting.Lifetime[0]
      Now listening on: http://localhost:5000",
            "plain",
            "System.AggregateException: One or more errors occurred. (a) (b)
 ---> System.Exception: a
   at App.A.Run() in /src/A.cs:line 1
   --- End of inner exception stack trace ---
   at App.Program.Main() in /src/Program.cs:line 2
 ---> (Inner Exception #1) System.Exception: b
   at App.B.Run() in /src/B.cs:line 1<---

 ---> (Inner Exception #2) System.Exception: c<---",
            "",
            "the end",
        ],
    );
}

#[test]
fn ruby() {
    whole(
        Preset::Ruby,
        &[
            "I, [2024-05-06T07:08:09.123456 #1]  INFO -- : started",
            "app.rb:4:in 'rescue in open': outer (RuntimeError)
\tfrom app.rb:1:in 'open'
\tfrom app.rb:9:in '<main>'
app.rb:2:in 'Integer#/': divided by 0 (ZeroDivisionError)
\tfrom app.rb:2:in 'open'
\t... 1 levels...
\tfrom app.rb:9:in '<main>'",
            "I, [2024-05-06T07:08:10.000001 #1]  INFO -- : going on",
            "Traceback (most recent call last):
\t2: from app.rb:8:in `<main>'
\t1: from app.rb:5:in `bar'
app.rb:2:in `foo': boom (RuntimeError)",
            "E, [2024-05-06T07:08:11.000001 #1] ERROR -- : boom (RuntimeError)
app.rb:2:in 'foo'
/usr/lib/ruby/3.2.0/logger.rb:5:in `block in bar'
app.rb:8:in `<main>'",
            "test.rb:1:in `<main>': undefined method `foo' for 1:Integer (NoMethodError)

1.foo
 ^^^^
Did you mean?  floor
\tfrom test.rb:1:in `<main>'",
            "ActionController::RoutingError (No route matches [GET] \"/x\"):
  \nactionpack (7.0.4) lib/action_dispatch/middleware/debug_exceptions.rb:28:in `call'
railties (7.0.4) lib/rails/rack/logger.rb:40:in `call_app'",
            "",
            "the end",
        ],
    );
}

#[test]
fn node() {
    whole(
        Preset::Node,
        &[
            "listening on 3000",
            "/app/index.js:3
    throw new Error('boom');
    ^

Error: boom
    at Object.<anonymous> (/app/index.js:3:9)
    at Module._compile (node:internal/modules/cjs/loader:1105:14)
    at node:internal/main/run_main_module:17:47 {
  code: 'EBOOM',
  details: {
    a: 1
  },
  [cause]: TypeError: inner
      at deep (/app/deep.js:1:1)
}

Node.js v18.12.0",
            "TypeError: x is not a function
    at handler (/app/routes.js:10:5)
    at async Promise.all (index 0)",
            "GET /x 500",
            "Error: connect ECONNREFUSED 127.0.0.1:5432
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1555:16) {
  errno: -111,
  code: 'ECONNREFUSED'
}",
            "{ level: 'info' }",
            "  an indented line of no trace",
            "Error: Cannot find module 'x'
Require stack:
- /app/index.js
- /app/main.js
    at Function.Module._resolveFilename (node:internal/modules/cjs/loader:933:15)",
            "node:internal/process/promises:246
          triggerUncaughtException(err, true /* fromPromise */);
          ^

[UnhandledPromiseRejection: This error originated either by throwing inside of an async function] {
  code: 'ERR_UNHANDLED_REJECTION'
}

Node.js v20.11.1",
            "/app/plain.js:1
throw 'boom'
^

boom
(Use `node --trace-uncaught ...` to show where the exception was thrown)

Node.js v18.19.0",
            "/var/log/app.log:12",
            "is where it is",
            "the end",
        ],
    );
}

#[test]
fn what_a_line_says_of_others_holds_until_it_is_forgotten() {
    let mut tracer = Tracer::new(Preset::Python);
    assert_eq!(tracer.mark(b"Traceback (most recent call last):\n"), Mark::First);
    assert_eq!(tracer.mark(b"  x\n"), Mark::More);
    tracer.forget();
    assert_eq!(tracer.mark(b"  x\n"), Mark::Alone);
}

proptest! {
    /// Whatever comes, no line is lost, and none is in two records.
    #[test]
    fn nothing_is_lost(
        preset in prop::sample::select(Preset::ALL.to_vec()),
        lines in prop::collection::vec(
            prop_oneof![
                "[ \t]{0,6}(at |from |File \"|Caused by: |\\.\\.\\. )?[a-z(:){}^|+'`0-9]{0,12}",
                Just(String::new()),
                Just("Traceback (most recent call last):".to_owned()),
                Just("goroutine 1 [running]:".to_owned()),
                Just("panic: x".to_owned()),
                Just("ValueError: x".to_owned()),
                Just("/a.js:3".to_owned()),
            ],
            0..40,
        ),
    ) {
        let records = joined(preset, lines.iter().map(String::as_str));
        prop_assert_eq!(records.join("\n"), lines.join("\n"));
    }

    #[test]
    fn no_bytes_make_it_panic(
        preset in prop::sample::select(Preset::ALL.to_vec()),
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
    ) {
        let mut tracer = Tracer::new(preset);
        lines.iter().for_each(|line| {
            tracer.mark(line);
        });
    }
}
