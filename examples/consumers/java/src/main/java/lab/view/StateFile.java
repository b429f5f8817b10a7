package lab.view;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;

/**
 * A view's state in one JSON file, which is replaced as a whole.
 *
 * <p>This serves one process on one machine, and small tables. If KCL moved a shard's lease to a second machine, that one would
 * find the checkpoint, but not the file. A real deployment keeps rows and sequences in a database that all workers reach, and
 * lets each statement compare: {@code INSERT … ON CONFLICT … DO UPDATE … WHERE excluded.sequence > sequence}, in DynamoDB a
 * condition expression. The comparison also rejects what a worker writes that has lost its lease and does not know it yet.
 */
final class StateFile implements AutoCloseable {
  /** The last event of a row. */
  record Row(String sequence, Map<String, String> columns) {}

  /**
   * What must survive a crash.
   *
   * @param worker KCL's name of this worker. With the same name, it has its leases again as soon as it restarts.
   * @param sequences the last {@code sequence}, by source and partition key
   * @param rows by source, table and subject
   * @param truncated the last {@code sequence} of a {@code truncated}, by source and table
   */
  record State(
      String worker,
      Map<String, Map<String, String>> sequences,
      Map<String, Map<String, Map<String, Row>>> rows,
      Map<String, Map<String, String>> truncated) {

    static State empty() {
      return new State(UUID.randomUUID().toString(), new TreeMap<>(), new TreeMap<>(), new TreeMap<>());
    }
  }

  private final Path path;
  private final FileChannel lock;

  /** Opens it for this process alone. */
  StateFile(Path path) throws IOException {
    this.path = path.toAbsolutePath();
    lock = FileChannel.open(beside(".lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
    if (lock.tryLock() == null) {
      lock.close();
      throw new IOException(path + " is in use by another process");
    }
  }

  State read() throws IOException {
    return Files.exists(path) ? Event.JSON.readValue(path.toFile(), State.class) : State.empty();
  }

  /** Replaces the file durably. KCL's checkpoint follows, and must not be ahead of the file, also after a power failure. */
  void write(State state) throws IOException {
    Path written = beside(".new");
    try (FileChannel file =
        FileChannel.open(
            written,
            StandardOpenOption.CREATE,
            StandardOpenOption.TRUNCATE_EXISTING,
            StandardOpenOption.WRITE)) {
      ByteBuffer json = ByteBuffer.wrap(Event.JSON.writeValueAsBytes(state));
      while (json.hasRemaining()) {
        file.write(json);
      }
      file.force(true);
    }
    Files.move(written, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    try (FileChannel directory = FileChannel.open(path.getParent(), StandardOpenOption.READ)) {
      directory.force(true);
    }
  }

  private Path beside(String ending) {
    return path.resolveSibling(path.getFileName() + ending);
  }

  @Override
  public void close() throws IOException {
    lock.close();
  }
}
