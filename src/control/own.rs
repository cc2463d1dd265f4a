//! Which container we run in, so that it is not followed: it would feed itself.
//!
//! Pure: the texts of `/proc/self/…` in, an id out.

/// Our own container's full id, from `/proc/self/mountinfo` and `/proc/self/cgroup`; `None` on
/// the host, or where neither names one.
///
/// In a container the engine mounts its own file over `/etc/hostname`; the mount's root is that
/// file's path on the host, with the id in it. Under cgroup v1 the cgroup's path has it too.
pub fn container_id(mountinfo: &str, cgroup: &str) -> Option<String> {
    let mounted = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        matches!(mount_point, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf").then_some(root)
    });
    let grouped = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    mounted.chain(grouped).find_map(id_in)
}

/// The first run of exactly 64 hexadecimal digits.
fn id_in(path: &str) -> Option<String> {
    path.split(|c: char| !c.is_ascii_hexdigit())
        .find(|run| run.len() == 64)
        .map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";

    #[test]
    fn in_a_container() {
        let mountinfo = format!(
            "1 2 0:1 / / rw - overlay overlay rw\n\
             5 1 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(container_id(&mountinfo, ""), Some(ID.to_owned()));
        assert_eq!(container_id("", &format!("4:memory:/docker/{ID}\n")), Some(ID.to_owned()));
        let systemd = format!("0::/system.slice/docker-{ID}.scope\n");
        assert_eq!(container_id("", &systemd), Some(ID.to_owned()));
    }

    #[test]
    fn on_the_host() {
        // The host sees other containers' mounts, but not over its own /etc/hostname.
        let mountinfo = format!(
            "7 1 0:9 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n\
             8 1 8:1 / /etc/hosts rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(container_id(&mountinfo, "0::/user.slice/session-1.scope\n"), None);
        assert_eq!(container_id("", ""), None);
    }
}
