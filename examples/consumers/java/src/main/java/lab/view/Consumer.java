package lab.view;

import java.net.URI;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.model.Shard;
import software.amazon.awssdk.services.kinesis.model.ShardFilterType;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/** Reads a Kinesis data stream into a view, with the Kinesis Client Library (KCL). */
final class Consumer {
  private final String stream;
  private final KinesisAsyncClient kinesis;
  private final Scheduler scheduler;
  private final Set<String> caughtUp = ConcurrentHashMap.newKeySet();
  private volatile boolean stopping;

  /**
   * @param application names KCL's table in DynamoDB, with leases and checkpoints. Delete the view's file and this table
   *     together: a new file with old checkpoints would miss all earlier events.
   * @param endpoint of Kinesis; null: AWS
   * @param dynamoDbEndpoint null: AWS
   */
  Consumer(View view, String stream, String application, URI endpoint, URI dynamoDbEndpoint) {
    this.stream = stream;
    // The client's default is HTTP/2, which LocalStack does not speak and polling does not need.
    kinesis =
        KinesisAsyncClient.builder()
            .endpointOverride(endpoint)
            .httpClientBuilder(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1))
            .build();
    DynamoDbAsyncClient dynamoDb = DynamoDbAsyncClient.builder().endpointOverride(dynamoDbEndpoint).build();
    scheduler = scheduler(view, application, dynamoDb);
  }

  private Scheduler scheduler(View view, String application, DynamoDbAsyncClient dynamoDb) {
    ConfigsBuilder configs =
        new ConfigsBuilder(
            new SingleStreamTracker(
                stream, InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON)),
            application,
            kinesis,
            dynamoDb,
            CloudWatchAsyncClient.create(),
            view.worker(),
            () -> new ShardProcessor(view, caughtUp));

    var leases = configs.leaseManagementConfig();
    // After a crash of this worker, another one gets its leases and the leadership when these times have passed. KCL's defaults
    // are 10 s and 2 min. The shards that a reshard creates wait for a leader. Shorter times cost more requests to DynamoDB.
    leases.failoverTimeMillis(5_000);
    leases.leaseAssignmentIntervalMillis(2_000L);
    leases.dynamoDbLockBasedLeaderLeaseDurationInMillis(6_000);
    leases.dynamoDbLockBasedLeaderHeartbeatPeriodInMillis(2_000);
    // The very first start waits this long after it has created the leases. The default is 1 min.
    leases.shardSyncIntervalMillis(1_000);
    // With several workers, leave the metrics on: KCL moves leases from busy machines to idle ones.
    leases.workerUtilizationAwareAssignmentConfig().disableWorkerMetrics(true);

    var coordinator = configs.coordinatorConfig();
    coordinator.parentShardPollIntervalMillis(1_000);
    coordinator.shardConsumerDispatchPollIntervalMillis(250);

    return new Scheduler(
        configs.checkpointConfig(),
        coordinator,
        leases,
        configs.lifecycleConfig(),
        // By default, KCL writes metrics to CloudWatch.
        configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
        // Also calls the processor when a shard has no records, so that it notes that it has caught up.
        configs.processorConfig().callProcessRecordsEvenForEmptyRecordList(true),
        // Polling: a shard allows five reads a second, all consumers together. By default, KCL uses enhanced fan-out, which AWS
        // charges for.
        configs
            .retrievalConfig()
            .retrievalSpecificConfig(new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(500)));
  }

  /** Reads until {@link #stop}. */
  void run() {
    scheduler.run();
    if (!stopping) {
      throw new IllegalStateException("KCL has stopped");
    }
  }

  /** Reads until it has caught up with all shards. */
  void runUntilIdle() throws InterruptedException, ExecutionException {
    Thread reader = new Thread(scheduler, "kcl");
    reader.start();
    // KCL starts a shard after its parents are processed. So if it has caught up with the open shards, nothing is left.
    while (!caughtUp.containsAll(openShards())) {
      if (!reader.isAlive()) {
        throw new IllegalStateException("KCL has stopped");
      }
      Thread.sleep(500);
    }
    stop();
  }

  private Set<String> openShards() throws InterruptedException, ExecutionException {
    return kinesis
        .listShards(request -> request.streamName(stream).shardFilter(filter -> filter.type(ShardFilterType.AT_LATEST)))
        .get()
        .shards()
        .stream()
        .map(Shard::shardId)
        .collect(Collectors.toSet());
  }

  /** Finishes the current batches and releases the leases. */
  void stop() {
    stopping = true;
    scheduler.startGracefulShutdown().join();
  }
}
