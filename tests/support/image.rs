//! The image of logchute: built without a registry, for an engine of the tests.
//!
//! The runtime stage of the `Dockerfile` takes a static binary that is built here (a debug build,
//! under `target/tmp/image`, kept between runs: a third of the time of a release build, which is
//! what `LOGCHUTE_TEST_FULL=1` takes).

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::docker::Docker;
use super::pki::Pki;
use super::{full, say};

/// The image, for as long as a test uses it.
pub(crate) struct Image {
    /// The engine that has it.
    pub docker: Docker,
    /// What it is called there.
    pub name: String,
    /// Its certificate authority is the only one the image has.
    pub pki: Pki,
}

impl Image {
    /// The image, built where no other test has it. Without an engine the test is skipped.
    pub(crate) fn get() -> Option<Arc<Image>> {
        static BUILT: Mutex<Weak<Image>> = Mutex::new(Weak::new());
        let docker = Docker::of_host()?;
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = built.upgrade() {
            return Some(image);
        }
        let image = Arc::new(Image::build(docker));
        *built = Arc::downgrade(&image);
        Some(image)
    }

    /// The image, built for `docker`.
    pub(crate) fn build(docker: Docker) -> Image {
        let (binary, pki) = (static_binary(), Pki::new());
        // A guard from here on: a build that fails half-way may have made the image.
        let name = format!("logchute-test-image:{}", std::process::id());
        let image = Image { docker, name, pki };
        let root = tempfile::Builder::new().prefix("lct-image-").tempdir().unwrap();
        let certificates = root.path().join("etc/ssl/certs");
        std::fs::create_dir_all(&certificates).unwrap();
        std::fs::create_dir(root.path().join("bin")).unwrap();
        std::fs::copy(binary, root.path().join("bin/logchute")).unwrap();
        symlink("logchute", root.path().join("bin/wget")).unwrap();
        std::fs::copy(image.pki.ca(), certificates.join("ca-certificates.crt")).unwrap();
        let dockerfile = concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile");
        let (begun, root) = (Instant::now(), root.path().display().to_string());
        let stage = ["--target", "ready", "--tag", &image.name, "--file", dockerfile, &root];
        image.docker.run(&[&["build", "--quiet", "--force-rm"], &stage[..]].concat());
        let size: f64 = image.inspect("{{.Size}}").parse().unwrap();
        let (size, took) = (size / 1e6, begun.elapsed().as_secs_f64());
        say(&format!("image: {size:.1} MB, built in {took:.1} s"));
        image
    }

    /// A field of what the engine says of it.
    pub(crate) fn inspect(&self, format: &str) -> String {
        self.docker.run(&["image", "inspect", "-f", format, &self.name]).trim().to_owned()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.docker.try_run(&["image", "rm", "-f", &self.name]);
    }
}

/// The program, linked statically as in the `Dockerfile`, from no more than its build stage gets.
fn static_binary() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    let context = folder.join("context");
    copy_context(&context);
    let about = Command::new("rustc").arg("-vV").output().unwrap_or_else(|e| panic!("rustc: {e}"));
    let about = String::from_utf8_lossy(&about.stdout).into_owned();
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
    let profile = if full() { "release" } else { "dev" };
    let begun = Instant::now();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--bin", "logchute", "--profile", profile, "--target", &host])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(&context)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .output()
        .unwrap_or_else(|e| panic!("cargo: {e}"));
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    say(&format!("static binary ({profile}): {:.0} s", begun.elapsed().as_secs_f64()));
    folder.join(host).join(if full() { "release" } else { "debug" }).join("logchute")
}

/// Makes `to` what `.dockerignore` lets into the build: each of its names, and nothing else.
fn copy_context(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignore = std::fs::read_to_string(from.join(".dockerignore")).unwrap();
    let lines = ignore.lines().filter(|line| !line.starts_with('#'));
    let (all, names): (Vec<&str>, Vec<&str>) = lines.partition(|line| *line == "*");
    assert_eq!(all.len(), 1, ".dockerignore does not begin with everything");
    std::fs::create_dir_all(to).unwrap();
    let names: Vec<&str> = names.iter().map(|name| name.strip_prefix('!').unwrap()).collect();
    keep_only(to, &|name| names.contains(&name));
    for name in names {
        if from.join(name).exists() {
            copy(&from.join(name), &to.join(name));
        }
    }
}

/// Copies a file or folder. A file that is the same already is left alone: its time of change is
/// what Cargo goes by.
fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        let new = std::fs::read(from).unwrap();
        if std::fs::read(to).ok().as_ref() != Some(&new) {
            std::fs::write(to, new).unwrap();
        }
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    keep_only(to, &|name| from.join(name).exists());
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}

fn keep_only(folder: &Path, wanted: &dyn Fn(&str) -> bool) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            _ if entry.file_name().to_str().is_some_and(wanted) => {}
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
}
