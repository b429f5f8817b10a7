package lab.view;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.KinesisClientLibDependencyException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.exceptions.ThrottlingException;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** Applies the records of one shard to the view. KCL starts a shard after its parents are processed. */
final class ShardProcessor implements ShardRecordProcessor {
  private static final Logger LOG = LoggerFactory.getLogger(ShardProcessor.class);

  private final View view;
  private final Set<String> caughtUp;
  private String shard;

  /**
   * @param caughtUp the shards that have been read to their latest record
   */
  ShardProcessor(View view, Set<String> caughtUp) {
    this.view = view;
    this.caughtUp = caughtUp;
  }

  @Override
  public void initialize(InitializationInput input) {
    shard = input.shardId();
  }

  @Override
  public void processRecords(ProcessRecordsInput input) {
    if (!input.records().isEmpty()) {
      apply(input.records());
      // The effects are durable. After a crash before this line, the records come again, and `sequence` rejects their events.
      checkpoint(input.checkpointer());
    }
    if (input.millisBehindLatest() == 0) {
      caughtUp.add(shard);
    } else {
      caughtUp.remove(shard);
    }
  }

  private void apply(List<KinesisClientRecord> records) {
    try {
      List<Event> events = new ArrayList<>();
      for (KinesisClientRecord record : records) {
        events.addAll(Event.of(record.data()));
      }
      view.apply(events);
    } catch (Throwable error) {
      // If this method threw, KCL would skip these records, and the next checkpoint would cover them. So exit: the next start
      // reads from the last checkpoint.
      LOG.error("cannot apply records of {}", shard, error);
      Runtime.getRuntime().halt(1);
    }
  }

  private void checkpoint(RecordProcessorCheckpointer checkpointer) {
    try {
      checkpointer.checkpoint();
    } catch (ShutdownException error) {
      LOG.info("lost the lease of {}; its new owner reads from the last checkpoint", shard);
    } catch (ThrottlingException | KinesisClientLibDependencyException | InvalidStateException error) {
      // The next checkpoint covers these records too. At the end of a shard, KCL calls shardEnded() again.
      LOG.warn("cannot write the checkpoint of {}", shard, error);
    }
  }

  @Override
  public void shardEnded(ShardEndedInput input) {
    // Until this checkpoint is written, KCL does not start the children.
    checkpoint(input.checkpointer());
  }

  @Override
  public void shutdownRequested(ShutdownRequestedInput input) {
    checkpoint(input.checkpointer());
  }

  @Override
  public void leaseLost(LeaseLostInput input) {
    caughtUp.remove(shard);
  }
}
