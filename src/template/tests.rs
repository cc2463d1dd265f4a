//! The recordings of Go, replayed (`tests/conformance/go-template.jsonl`); folding against plain
//! evaluation; the bounds.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

fn corpus(name: &str) -> String {
    let path = format!("{}/tests/conformance/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// What a template of the corpus runs on.
struct Setting {
    context: Context,
    functions: Functions,
    data: Vec<u8>,
    time: Moment,
    timestamp: Vec<u8>,
}

impl Setting {
    fn new(json: &Json) -> Setting {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let container = Arc::new(json["container"].clone());
        let source = if json["source"] == "stderr" { "stderr" } else { "stdout" };
        let env = json["env"].as_object().into_iter().flatten();
        let env = env.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect();
        let (context, functions) = match json["kind"].as_str().unwrap() {
            "raw" => (Context::raw(container, source), Functions::WithToJson),
            "syslog" => (Context::syslog(container, source, "host"), Functions::Predefined),
            "slack" => (Context::slack(container, source, Arc::new(env)), Functions::Predefined),
            _ => (Context::value(Arc::new(json["value"].clone())), Functions::WithToJson),
        };
        let data = match json["data_base64"].as_str() {
            Some(data) => STANDARD.decode(data).unwrap(),
            None => text("data").into_bytes(),
        };
        let time = Moment::parse(&text("time")).unwrap_or(Moment::ZERO);
        let mut timestamp = Vec::new();
        time.format(b"2006-01-02T15:04:05Z07:00", &mut timestamp);
        Setting { context, functions, data, time, timestamp }
    }

    fn line(&self) -> Line<'_> {
        Line { data: &self.data, time: self.time, timestamp: &self.timestamp }
    }
}

fn settings() -> BTreeMap<String, Setting> {
    let contexts: Json = serde_json::from_str(&corpus("go-template-contexts.json")).unwrap();
    let contexts = contexts.as_object().unwrap().iter();
    contexts.map(|(name, json)| (name.clone(), Setting::new(json))).collect()
}

/// `Ok` is the output, `Err` the kind of error and its text.
fn outcome(setting: &Setting, text: &str) -> Result<Vec<u8>, (&'static str, String)> {
    let template = Template::compile("t", text, setting.functions)
        .map_err(|error| ("parse", error.to_string()))?;
    let (mut plain, mut folded) = (Vec::new(), Vec::new());
    let evaluated = template.evaluate(&setting.context, &setting.line(), &mut plain);
    let bound = template.bind(&setting.context);
    let rendered = bound.render(&setting.line(), &mut folded);
    assert_eq!(rendered, evaluated, "{text}");
    assert_eq!(folded, plain, "{text}");
    let len_max = bound.len_max(setting.data.len());
    assert!(len_max.is_none_or(|len_max| folded.len() <= len_max), "{text}");
    evaluated.map(|()| plain).map_err(|error| ("exec", error.to_string()))
}

#[test]
fn as_go() {
    let settings = settings();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in corpus("go-template.jsonl").lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let text = case["template"].as_str().unwrap();
        let got = outcome(&settings[case["context"].as_str().unwrap()], text);
        let expected = match (case["expect"].as_str(), case["expect_base64"].as_str()) {
            (Some(text), _) => Ok(text.as_bytes().to_vec()),
            (_, Some(text)) => Ok(STANDARD.decode(text).unwrap()),
            _ => Err((case["error"].as_str().unwrap(), case["message"].as_str().unwrap())),
        };
        let same = match (&got, &expected) {
            (Ok(got), Ok(expected)) => got == expected,
            (Err((kind, text)), Err(expected)) => (*kind, &**text) == *expected,
            _ => false,
        };
        if !same {
            let got = got.map(|text| String::from_utf8_lossy(&text).into_owned());
            wrong.push(format!("{case}\n    we say {got:?}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(count, 551);
}

fn value(json: Json) -> Setting {
    Setting::new(&serde_json::json!({"kind": "value", "value": json}))
}

fn shown(setting: &Setting, text: &str) -> String {
    String::from_utf8(outcome(setting, text).unwrap()).unwrap()
}

fn complaint(text: &str) -> String {
    outcome(&value(serde_json::json!([1, 2, 3])), text).unwrap_err().1
}

#[test]
fn brace_free() {
    let setting = &settings()["raw"];
    let pairs = [
        ("%{.Source}: %{ toJSON .Data }!", "stdout: \"GET /index.html 200\"!"),
        ("%{if eq .Source \"stdout\" -} out %{- end}", "out"),
        ("%{/* no */}%{\"}%{\"}%{`}`}", "}%{}"),
        // Where there are braces, it is Go's template and the rest is text.
        ("%{.Source} {{.Source}}", "%{.Source} stdout"),
        ("100% of } and { stay", "100% of } and { stay"),
    ];
    for (text, expected) in pairs {
        assert_eq!(shown(setting, text), expected, "{text}");
    }
    assert_eq!(complaint("%{.x"), "template: t:1: unclosed action");
    assert_eq!(complaint("a\n%{.}}\n%{if}"), "template: t:3: missing value for if");
}

/// Cases that the recordings leave out; what Go says of them is known from its sources.
#[test]
fn not_in_the_corpus() {
    let values = value(serde_json::json!({"n": 7, "f": -2.5, "s": "a\"b", "l": [1, [2]]}));
    let pairs = [
        (
            r#"{{printf "%08.3f|%+.2e|%6.1f|%-8g|" .f .f 3.14159 2.5}}"#,
            "-002.500|-2.50e+00|   3.1|2.5     |",
        ),
        (
            r#"{{printf "%o %O %#o %#x %#X %#b %U %#U" 8 8 8 255 255 5 233 233}}"#,
            "10 0o10 010 0xff 0XFF 0b101 U+00E9 U+00E9 'é'",
        ),
        (
            r#"{{printf "%5t|%-7q|%+q|%x|%# X" true "é" "é" "é" "é"}}"#,
            r#" true|"é"    |"\u00e9"|c3a9|0XC3 0XA9"#,
        ),
        (r#"{{printf "%[3]*.[2]*[1]f|%[1]v" 12.0 2 6}}"#, " 12.00|12"),
        (r#"{{printf "%d%%" 5 "x"}}"#, "5%%!(EXTRA string=x)"),
        (r#"{{printf "%[5]d %[x]d %[1]"}}"#, "%!d(BADINDEX) %!d(BADINDEX) %!(NOVERB)"),
        (r#"{{printf "%.3d|%6.3d|%-6d|%+d" 7 7 7 7}}"#, "007|   007|7     |+7"),
        (r#"{{printf "%v %d %s" .l .l .s}}"#, r#"[1 [2]] [1 [2]] a"b"#),
        (r#"{{printf "%c%c %q" 233 128640 65}}"#, "é🚀 'A'"),
        (
            r#"{{printf "%g %g %.3g %G" 100000.0 1000000.0 1234.5678 1e-7}}"#,
            "100000 1e+06 1.23e+03 1E-07",
        ),
        (
            r#"{{0x1F}} {{0b11}} {{0o17}} {{017}} {{0x1p4}} {{-0}} {{1_0.5}}"#,
            "31 3 15 15 16 0 10.5",
        ),
        (
            "{{range $i, $e := .l}}{{if $i}}{{continue}}{{end}}{{$e}}{{end}}|\
             {{range .l}}{{break}}{{end}}",
            "1|",
        ),
        (r#"{{define "d"}}<{{.}}>{{end}}{{template "d" .n}}{{template "d"}}"#, "<7><<no value>>"),
        (r#"{{with $x := .n}}{{$x}}{{else}}no{{end}}{{with 0}}a{{else}}{{.n}}{{end}}"#, "77"),
        (r#"{{slice "héllo" 1 3}}{{index "abc" 1}}{{len (slice .l 1)}}"#, "é981"),
        (r#"{{and 1 0 (index .l 9)}}{{or 0 "" "x"}}{{not nil}}"#, "0xtrue"),
    ];
    for (text, expected) in pairs {
        // A decimal number with underscores and a point is none in Go.
        match text.contains("1_0.5") {
            true => assert!(outcome(&values, text).is_err()),
            false => assert_eq!(shown(&values, text), expected, "{text}"),
        }
    }
}

/// Where a container belongs, by Swarm's labels, Compose's, or none; the same for every line.
#[test]
fn places() {
    let text = "{{.Service}}|{{.Task}}|{{.Node}}|{{.Stack}}";
    let swarm = [
        ("com.docker.swarm.service.name", "shop_web"),
        ("com.docker.swarm.task.name", "shop_web.1.x7"),
        ("com.docker.swarm.task.id", "x7"),
        ("com.docker.swarm.node.id", "n1"),
        ("com.docker.stack.namespace", "shop"),
        ("com.docker.compose.service", "other"),
    ];
    let compose = [("com.docker.compose.project", "proj"), ("com.docker.compose.service", "db")];
    let bare = [("com.docker.swarm.task.name", ""), ("com.docker.swarm.task.id", "x7")];
    for (labels, expected) in [
        (&swarm[..], "shop_web|shop_web.1.x7|n1|shop"),
        (&compose, "db|||proj"),
        (&bare, "|x7||"),
        (&[], "|||"),
    ] {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let document = Arc::new(serde_json::json!({"Config": {"Labels": labels}}));
        let env = Arc::default();
        for (context, text) in [
            (Context::raw(document.clone(), "stdout"), text.to_owned()),
            (Context::syslog(document.clone(), "stdout", ""), text.to_owned()),
            (Context::syslog(document.clone(), "stdout", ""), text.replace("{.", "{.Message.")),
            (Context::slack(document, "stdout", env), text.replace("{.", "{.Message.")),
        ] {
            let template = Template::compile("t", &text, Functions::Predefined).unwrap();
            let bound = template.bind(&context);
            assert_eq!(bound.constant(), Some(expected.as_bytes()), "{text}");
        }
    }
    // Of a message alone, and not in what `toJSON` and `print` show of it.
    let outcome = outcome(&settings()["slack"], "{{.Service}}").unwrap_err().1;
    assert!(outcome.contains("can't evaluate field Service in type slack.Context"), "{outcome}");
    assert!(!shown(&settings()["raw"], "{{toJSON .}}").contains("\"Service\""));
}

/// What the body of a webhook's message is made of.
#[test]
fn lines_put_together() {
    let document = Arc::new(serde_json::json!({"Name": "/web"}));
    let env = BTreeMap::from([("TZ".to_owned(), "UTC".to_owned())]);
    let lines = ["a \"b\"", "c"].map(str::to_owned).to_vec();
    let summary = Summary { count: 39, more: 37, lines, text: "a\nc".to_owned() };
    let context = Context::webhook(document, "stderr", Arc::new(env), summary);
    let line = Line { data: b"first", time: Moment::ZERO, timestamp: b"" };
    let filled = |text: &str| {
        let template = Template::compile("body", text, Functions::WithToJson).unwrap();
        let mut out = Vec::new();
        template.evaluate(&context, &line, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let all = "{{.Message.Container.Name}} {{.Message.Source}} {{.Message.Data}} {{.Env.TZ}}";
    assert_eq!(filled(all), "/web stderr first UTC");
    assert_eq!(filled("{{.Count}} {{.More}} {{toJSON .Text}}"), "39 37 \"a\\nc\"");
    assert_eq!(filled("%{range .Lines}<%{.}>%{end}"), "<a \"b\"><c>");
    assert_eq!(filled("{{toJSON .Lines}}{{len .Lines}}"), "[\"a \\\"b\\\"\",\"c\"]2");
    assert!(filled("{{toJSON .}}").contains("\"Count\":39,\"More\":37,\"Lines\":[\"a "));
}

#[test]
fn work_is_bounded() {
    let loops = "{{range $}}".repeat(20) + "x" + &"{{end}}".repeat(20);
    assert!(complaint(&loops).contains("too much work"), "{}", complaint(&loops));
    let doubling = "{{$x := \"xy\"}}".to_owned() + &"{{$x = printf \"%s%s\" $x $x}}".repeat(40);
    assert!(complaint(&doubling).contains("too much work"), "{}", complaint(&doubling));
    let wide = "{{range $}}{{range $}}{{range $}}{{printf \"%1000000d\" 1}}".to_owned()
        + "{{end}}{{end}}{{end}}";
    assert!(complaint(&wide).contains("too much work"), "{}", complaint(&wide));
    let mut long = value(Json::Null);
    (long.context, long.data) = (settings()["raw"].context.clone(), vec![b'x'; 1 << 20]);
    let template = Template::compile("t", &"{{.Data}}".repeat(17), Functions::Predefined).unwrap();
    let error = template.bind(&long.context).render(&long.line(), &mut Vec::new()).unwrap_err();
    assert!(error.is_limit() && error.to_string().contains("bytes of output"), "{error}");
    let endless = "{{define \"a\"}}{{if 1}}{{template \"a\" .}}{{end}}{{end}}{{template \"a\"}}";
    assert!(complaint(endless).contains("maximum template depth"), "{}", complaint(endless));
}

#[test]
fn nesting_is_bounded() {
    for (open, inside, close) in [("{{if 1}}", "x", "{{end}}"), ("(", "1", ")")] {
        let nested = |times: usize| {
            let text = open.repeat(times) + inside + &close.repeat(times);
            if open == "(" { format!("{{{{{text}}}}}") } else { text }
        };
        assert_eq!(shown(&value(Json::Null), &nested(90)), inside);
        for times in [101, 100_000] {
            assert!(complaint(&nested(times)).contains("nested too deeply"));
        }
    }
    let chain = "{{if 0}}a".to_owned() + &"{{else if 0}}b".repeat(90) + "{{else}}c{{end}}";
    assert_eq!(shown(&value(Json::Null), &chain), "c");
}

#[test]
fn what_is_folded() {
    let settings = settings();
    let folded = |name: &str, text: &str| {
        let setting: &Setting = &settings[name];
        let bound = Template::compile("t", text, setting.functions).unwrap().bind(&setting.context);
        let parts: Vec<Part> = bound.parts.iter().map(|(_, part)| *part).collect();
        (String::from_utf8(bound.constant.to_vec()).unwrap(), parts)
    };
    let json = "{\"n\":{{toJSON .Container.Name}},\"m\":{{toJSON .Data}},\"t\":{{toJSON .Time}}}";
    let expected = "{\"n\":\"/proj_web_1\",\"m\":,\"t\":}".to_owned();
    assert_eq!(folded("raw", json), (expected, vec![Part::JsonData, Part::Time(0)]));
    let mixed = "{{with .Message}}{{.Source}} {{.Data}}{{end}} {{len .Message.Data}}";
    assert_eq!(folded("slack", mixed), ("stdout  ".to_owned(), vec![Part::Data, Part::Node(2)]));
    let stamps = "{{.Timestamp}} {{.Time.Format \"2006-01-02T15:04:05Z07:00\"}}";
    assert_eq!(folded("syslog", stamps), (" ".to_owned(), vec![Part::Timestamp; 2]));
    let variables = "{{$n := .Container.Name}}{{$d := .Data}}{{$n}} {{$d}}";
    assert_eq!(folded("raw", variables), ("/proj_web_1 ".to_owned(), vec![Part::Data]));
    let (constant, parts) = folded("raw", "{{$l := len .Data}}{{.Source}} {{$l}}");
    assert_eq!((&*constant, parts), ("", vec![Part::Whole]));
    assert_eq!(folded("raw", "a{{.Nope}}b{{.Data}}"), ("a".to_owned(), vec![Part::Fail]));
}

/// Templates made of parts that meet each other in all ways.
fn templates() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => Just("{{.Data}}"),
        1 => Just("{{toJSON .Data}}"),
        1 => Just("{{.Time.Format \"15:04:05.000\"}}"),
        1 => Just("{{.Time}}"),
        1 => Just("{{toJSON .Time}}"),
        1 => Just("{{len .Data}}"),
        1 => Just("{{.Data | html | printf \"%q\"}}"),
        1 => Just("{{.}}"),
        1 => Just("{{$.Source}}"),
        1 => Just("{{$v}}"),
        1 => Just("{{print $v}}"),
        1 => Just("{{toJSON $v}}"),
        1 => Just("{{$v = $.Data}}"),
        1 => Just("{{$v = len $.Data}}"),
        1 => Just("{{$v = .}}"),
        1 => Just("{{.Container.Name}}"),
        1 => Just("{{toJSON $.Container.Config.Labels}}"),
        1 => Just("{{index $.Container.Config.Env 1}}"),
        1 => Just("{{index $.Container.Config.Env 9}}"),
        1 => Just("{{.Nope}}"),
        1 => Just("{{break}}"),
        1 => Just("{{continue}}"),
        2 => Just("text "),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 4, |inner| {
        let list = prop::collection::vec(inner, 0..4).prop_map(|parts| parts.concat());
        let value = prop::sample::select(vec![
            "$.Data",
            ".",
            "$v",
            "$.Source",
            "0",
            "(eq $.Source \"stdout\")",
            "(len $.Data)",
            "(eq $.Data \"x\")",
            "$.Container",
            "$.Time",
            "(and $.Source $.Data)",
            "nil",
            "(print $.Data)",
            "$.Container.Config.Env",
            "(index $.Container.Config.Labels \"team\")",
        ]);
        prop_oneof![
            (value.clone(), list.clone(), list.clone())
                .prop_map(|(v, a, b)| format!("{{{{if {v}}}}}{a}{{{{else}}}}{b}{{{{end}}}}")),
            (value.clone(), list.clone())
                .prop_map(|(v, a)| format!("{{{{with {v}}}}}{a}{{{{end}}}}")),
            (list.clone(), list.clone()).prop_map(|(a, b)| format!(
                "{{{{range $i, $e := $.Container.Config.Env}}}}{{{{$i}}}}{a}\
                 {{{{else}}}}{b}{{{{end}}}}"
            )),
            (value.clone(), list.clone())
                .prop_map(|(v, a)| format!("{{{{range {v}}}}}{a}{{{{end}}}}")),
            (value, list.clone()).prop_map(|(v, a)| format!("{{{{$v := {v}}}}}{a}")),
            list,
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn folded_is_plain(
        text in templates(),
        defined in templates(),
        context in prop::sample::select(vec!["raw", "raw-invalid", "raw-bare", "raw-zone"]),
    ) {
        thread_local! { static SETTINGS: BTreeMap<String, Setting> = settings(); }
        let text = format!("{{{{$v := 1}}}}{text}");
        let called = format!(
            "{{{{define \"d\"}}}}{{{{$v := 1}}}}{defined}{{{{end}}}}{{{{template \"d\" .}}}}{text}"
        );
        // Without the variable that is set first, statements are folded one by one.
        let alone = text.replace("{{$v := 1}}", "").replace("$v", "$");
        SETTINGS.with(|settings| {
            for text in [&text, &called, &alone] {
                let _ = outcome(&settings[context], text);
            }
        });
    }

    #[test]
    fn nothing_makes_it_panic(
        text in "(\\{\\{|\\}\\}|[ -~]|é|\n|end|if |range|with|\\.x|printf|\"%|`){0,40}",
    ) {
        let _ = outcome(&value(serde_json::json!({"x": [1, "a", null, 2.5]})), &text);
    }
}
