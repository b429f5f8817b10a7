//! A file system of its own in an image file, which can lose power, or be full.
//!
//! What the kernel has not written back is in the page cache of the mounted file system; the image file behind the loop
//! device holds what has reached "the disk". A copy of the image, mounted elsewhere, is what a power cut leaves: the journal
//! is replayed, the page cache is gone. It does not model a disk that lies about its cache, nor one that reorders.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{SOON, eventually, missing};

/// What begins the name of a directory that holds images: what a killed run has left is known by it.
const PREFIX: &str = "fb-disk-";

/// A mounted ext4; unmounted and deleted when it is dropped.
#[derive(Debug)]
pub struct Volume {
    home: PathBuf,
    image: PathBuf,
    /// Counts images.
    cuts: u32,
    mounted: bool,
    /// For `mount`. A damaged file system must not look like a working one.
    options: &'static str,
    /// Held while this process lives: a home without a holder is a leftover.
    owner: File,
}

impl Volume {
    /// An empty file system of this size; `None`, with a message, where there can be none.
    pub fn make(mib: u64) -> Option<Self> {
        Self::make_with(mib, "loop,errors=remount-ro")
    }

    fn make_with(mib: u64, options: &'static str) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Nobody may find a home that is made but not yet held.
        let gate = File::create(place.join("fb-disk.lock")).unwrap();
        gate.lock().unwrap();
        clear_leftovers(place);
        let home = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place).unwrap().keep();
        let owner = File::create(home.join("owner")).unwrap();
        owner.lock().unwrap();
        drop(gate);
        let image = home.join("image-0");
        let mut volume = Self { home, image, cuts: 0, mounted: false, options, owner };
        fs::create_dir(volume.mount_point()).unwrap();
        File::create(&volume.image).unwrap().set_len(mib << 20).unwrap();
        // Inode tables are written now, not by a kernel thread later: nothing but us writes to the image.
        let inodes = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", inodes]).arg(&volume.image));
        volume.mount();
        Some(volume)
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> PathBuf {
        self.home.join("mount")
    }

    /// Bytes that can still be written.
    pub fn room(&self) -> u64 {
        let facts = rustix::fs::statvfs(self.mount_point()).unwrap();
        facts.f_bavail * facts.f_frsize
    }

    /// Copies what is on the disk at this moment, to be mounted by [`Snapshot::restore`]. Whoever writes must stand still;
    /// if the kernel writes something back meanwhile, the copy is made again, because it must be of one moment.
    pub fn snapshot(&mut self) -> Snapshot {
        self.cuts += 1;
        let image = self.home.join(format!("image-{}", self.cuts));
        let device = self.device();
        eventually("the image is copied while nothing is written to it", SOON, || {
            let before = written(&device);
            run(Command::new("cp").arg("--sparse=always").arg(&self.image).arg(&image));
            (before == written(&device)).then_some(())
        });
        Snapshot { image }
    }

    /// Makes everything durable that was done in it.
    pub fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(self.mount_point()));
    }

    fn mount(&mut self) {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", self.options])
            .arg(&self.image)
            .arg(self.mount_point()));
        self.mounted = true;
    }

    fn unmount(&mut self) {
        // Somebody may look at it for a moment (the kernel, an indexer).
        eventually("it is unmounted", SOON, || {
            let output = Command::new("umount").arg(self.mount_point()).output().unwrap();
            output.status.success().then_some(())
        });
        self.mounted = false;
    }

    /// The name of the loop device, such as `loop0`.
    fn device(&self) -> String {
        let point = self.mount_point();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == point.to_str()).unwrap();
        let device = line.split(' ').next().unwrap();
        Path::new(device).file_name().unwrap().to_str().unwrap().to_owned()
    }
}

/// What a power cut leaves.
#[derive(Debug)]
#[must_use]
pub struct Snapshot {
    image: PathBuf,
}

impl Snapshot {
    /// Mounts it in place of the volume it was made of. Nobody may have a file of that open any more.
    pub fn restore(self, volume: &mut Volume) {
        volume.unmount();
        fs::remove_file(&volume.image).unwrap();
        volume.image = self.image;
        volume.mount();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            detach(&self.mount_point());
        }
        fs::remove_dir_all(&self.home).unwrap_or_else(|error| eprintln!("{}: {error}", self.home.display()));
    }
}

/// Unmounts at once if nobody uses it, else as soon as nobody does. The loop device goes with the mount.
fn detach(point: &Path) {
    let in_time = Command::new("umount").arg(point).output().is_ok_and(|output| output.status.success());
    if !in_time && let Err(error) = Command::new("umount").arg("-l").arg(point).output() {
        eprintln!("{}: {error}", point.display());
    }
}

/// What runs that were killed have left: homes whose owner's lock is free.
fn clear_leftovers(place: &Path) {
    for entry in fs::read_dir(place).unwrap().flatten() {
        let home = entry.path();
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) && home.is_dir();
        let durable = || File::open(home.join("owner")).is_ok_and(|owner| owner.try_lock().is_err());
        if ours && !durable() {
            detach(&home.join("mount"));
            fs::remove_dir_all(&home).unwrap_or_else(|error| eprintln!("{}: {error}", home.display()));
        }
    }
}

/// Sectors written to a block device, and requests under way.
fn written(device: &str) -> (String, String) {
    let text = fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
    let field = |number: usize| text.split_whitespace().nth(number).unwrap().to_owned();
    (field(6), field(8))
}

/// Whether this is root on a kernel that gives loop devices. Says so where it is not.
fn can_mount() -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: mounting a file system needs root");
        return false;
    }
    if let Err(error) = Command::new("mkfs.ext4").arg("-V").output() {
        missing(&format!("mkfs.ext4 ({error})"));
        return false;
    }
    let free = Command::new("losetup").arg("-f").output();
    let usable = free.is_ok_and(|output| {
        let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && File::open(device).is_ok()
    });
    if !usable {
        eprintln!("SKIPPED: this machine (or container) gives no loop device");
    }
    usable
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The rig itself: what was fsynced is there after the cut, what was only written is not.
#[test]
fn power_cut_takes_exactly_unsynced_writes() {
    // By default the kernel makes names durable every five seconds: so long a slow machine may take.
    let options = "loop,errors=remount-ro,commit=300";
    let Some(mut volume) = Volume::make_with(16, options) else { return };
    let path = |name: &str| volume.mount_point().join(name);
    let (kept, lost, grown) = (path("kept"), path("lost"), path("grown"));
    fs::write(&kept, "fsynced").unwrap();
    fs::write(&grown, "fsynced").unwrap();
    for name in [&kept, &grown, &volume.mount_point()] {
        File::open(name).unwrap().sync_all().unwrap();
    }
    fs::write(&lost, "only written").unwrap();
    fs::write(&grown, "fsynced, and later written over").unwrap();
    fs::remove_file(&kept).unwrap();
    volume.snapshot().restore(&mut volume);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "fsynced", "its deletion was not durable");
    assert!(!lost.exists(), "nobody has fsynced it");
    let grown = fs::read_to_string(&grown).unwrap();
    assert!(grown == "fsynced" || grown.is_empty(), "{grown:?}");
}

#[test]
fn no_mount_outlives_its_test() {
    let Some(volume) = Volume::make(16) else { return };
    let (home, point) = (volume.home.clone(), volume.mount_point());
    let is_mounted = || fs::read_to_string("/proc/self/mounts").unwrap().contains(point.to_str().unwrap());
    assert!(is_mounted());
    drop(volume);
    assert!(!is_mounted() && !home.exists());
    // A killed run leaves it mounted, and the lock of its owner is free.
    let volume = std::mem::ManuallyDrop::new(Volume::make(16).unwrap());
    let (home, point) = (volume.home.clone(), volume.mount_point());
    volume.owner.unlock().unwrap();
    drop(Volume::make(16).unwrap());
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(point.to_str().unwrap()));
    assert!(!home.exists());
}
