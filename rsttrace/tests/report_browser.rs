//! The page of a report in a real browser: screenshots, the script within its policy, and the page on paper.
//!
//! Needs Debian's `chromium` and `poppler-utils` (`cargo xtask setup`), and is skipped without them. What it makes stays in
//! `target/report-screenshots`, to be looked at.
#![expect(clippy::expect_used, clippy::print_stderr, reason = "what fails here fails the test; a skip is told")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

/// JSON of the golden records, a line each.
const RECORDS: &str = include_str!("golden/json.txt");
/// A recording of a shop whose pool keeps connections for as long as its server does.
const EXAMPLE: &str = "../docs/report-example.jsonl.zst";

/// Whether a program is there.
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// Directory of the screenshots; `None`, with the reason, where there is no browser.
fn screenshots() -> Option<PathBuf> {
    for program in ["chromium", "pdftoppm"] {
        if !has(program) {
            eprintln!("skipped: {program} is not installed (cargo xtask setup)");
            return None;
        }
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../report-screenshots");
    fs::create_dir_all(&directory).expect("it can be made");
    Some(directory.canonicalize().expect("it is there"))
}

/// Writes a report of an input.
fn report(input: &str, page: &Path, more: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
        .args(["report", "--time", "utc", "-q", "-o", page.to_str().expect("UTF-8")])
        .args(more)
        .arg(input)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the browser on an address with a profile of its own, and returns its standard output.
fn browser(address: &str, arguments: &[&str]) -> String {
    let profile = tempfile::tempdir().expect("a directory");
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(address)
        .stderr(Stdio::null())
        .output()
        .expect("chromium starts");
    assert!(output.status.success(), "{address}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn address(page: &Path, fragment: &str) -> String {
    format!("file://{}{fragment}", page.display())
}

/// Takes a screenshot, which is not empty.
fn shot(directory: &Path, name: &str, address: &str, size: (u32, u32), arguments: &[&str]) {
    let path = directory.join(name);
    let shot = format!("--screenshot={}", path.display());
    let size = format!("--window-size={},{}", size.0, size.1);
    browser(address, &[&[shot.as_str(), &size], arguments].concat());
    // A blank page of this size takes a tenth.
    let bytes = fs::metadata(&path).expect("a screenshot").len();
    assert!(bytes > 30_000, "{name}: {bytes} bytes");
}

#[test]
fn a_page_shows_in_every_theme_and_size() {
    let Some(directory) = screenshots() else { return };
    let page = directory.join("page.html");
    report(EXAMPLE, &page, &[]);
    let plain = address(&page, "");
    shot(&directory, "light.png", &plain, (1100, 3000), &[]);
    shot(&directory, "dark.png", &plain, (1100, 3000), &["--blink-settings=preferredColorScheme=0"]);
    shot(&directory, "phone.png", &plain, (500, 4500), &[]);
    // As a gateway of mail leaves it that takes scripts away.
    let text = fs::read_to_string(&page).expect("the page");
    let (before, rest) = text.split_once("<script>").expect("a script");
    let (_, after) = rest.split_once("</script>").expect("its end");
    let unscripted = directory.join("page-without-script.html");
    fs::write(&unscripted, format!("{before}{after}")).expect("it is written");
    shot(&directory, "without-script.png", &address(&unscripted, ""), (1100, 3000), &[]);
}

#[test]
fn the_script_runs_within_its_policy_and_filters_by_the_address() {
    let Some(directory) = screenshots() else { return };
    let page = directory.join("filtered.html");
    report(EXAMPLE, &page, &[]);
    let all = browser(&address(&page, ""), &["--dump-dom"]);
    let rows = |dom: &str, hidden: bool| {
        let rows = dom.split("<details class=\"row\"").skip(1);
        rows.filter(|row| row.split('>').next().unwrap_or_default().contains("hidden") == hidden).count()
    };
    assert!(all.contains("<html lang=\"en\" class=\"js\">") && rows(&all, true) == 0, "the script ran");
    let wanted = all.matches("data-fault=\"peer\"").count();
    let filtered = browser(&address(&page, "#fault=peer"), &["--dump-dom"]);
    assert!(wanted > 0 && rows(&filtered, false) == wanted, "{wanted}, {}", rows(&filtered, false));
    assert!(filtered.contains(&format!("{wanted} of ")) && filtered.contains("fault: the peer"), "chips and counts");
    shot(&directory, "filtered.png", &address(&page, "#fault=peer"), (1100, 3000), &[]);
    // A fragment that is none does no harm.
    let odd = browser(&address(&page, "#fault=%E0%A4%A&x=1&=&time=a-b&text=%3Cimg%20src=x%3E"), &["--dump-dom"]);
    assert!(!odd.contains("<img") && odd.contains("text: &lt;img"), "it is a text");
}

#[test]
fn hostile_names_are_text_in_a_browser() {
    let Some(directory) = screenshots() else { return };
    let evil = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">";
    let mut lines = String::new();
    for (number, line) in RECORDS.lines().filter(|line| line.contains("\"type\":\"reset\"")).enumerate() {
        let mut record: Value = serde_json::from_str(line).expect("JSON");
        (record["seq"], record["incident"], record["incident_role"]) =
            (json!(number + 1), json!(number + 1), json!("first"));
        record["host"] = json!(evil);
        record["peer"]["name"] = json!(format!("{evil}{}", "x".repeat(100_000)));
        if record["process"].is_object() {
            record["process"]["comm"] = json!(evil);
            record["process"]["command_line"] = json!(format!("{evil}{}", "x".repeat(100_000)));
        }
        lines.extend([&record.to_string(), "\n"]);
    }
    let input = directory.join("hostile.jsonl");
    fs::write(&input, lines).expect("it is written");
    let page = directory.join("hostile.html");
    report(input.to_str().expect("UTF-8"), &page, &[]);
    let dom = browser(&address(&page, ""), &["--dump-dom"]);
    assert!(!dom.contains("<title>pwned") && !dom.contains("<img"), "nothing of it ran");
    shot(&directory, "hostile.png", &address(&page, ""), (1100, 3000), &[]);
}

#[test]
fn a_page_prints() {
    let Some(directory) = screenshots() else { return };
    let page = directory.join("printed.html");
    report(EXAMPLE, &page, &[]);
    let pdf = directory.join("printed.pdf");
    let to = format!("--print-to-pdf={}", pdf.display());
    browser(&address(&page, ""), &["--no-pdf-header-footer", &to]);
    let status = Command::new("pdftoppm").args(["-r", "60", "-png"]).arg(&pdf).arg(directory.join("printed")).status();
    assert!(status.is_ok_and(|status| status.success()), "pdftoppm");
    let names =
        fs::read_dir(&directory).expect("it is there").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let sheets = names.filter(|name| name.starts_with("printed-")).count();
    // Verdict, plots and the newest incidents, not a thousand rows.
    assert!((2..=12).contains(&sheets), "{sheets} sheets");
}
