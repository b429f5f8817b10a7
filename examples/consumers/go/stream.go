package main

// Reads a Kinesis data stream, parent shards before their children, with checkpoints in the state.
//
// One process reads all shards. For more than it can do, use the KCL, which spreads shards over machines.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// A shard allows five reads a second, all consumers together.
const pause = 250 * time.Millisecond

// Stream calls handleRecord for each record. Its effects and the checkpoint are committed together.
type Stream struct {
	client       *kinesis.Client
	name         string
	state        *State
	handleRecord func(state *State, data []byte) error
	iterators    map[string]string // by shard
}

func newStream(client *kinesis.Client, name string, state *State, handleRecord func(*State, []byte) error) *Stream {
	return &Stream{client, name, state, handleRecord, map[string]string{}}
}

// run reads forever; with untilIdle, until it has caught up with all shards.
func (s *Stream) run(ctx context.Context, untilIdle bool) error {
	for {
		shards, err := s.shards(ctx)
		if err != nil {
			return err
		}
		busy := false
		for _, shard := range shards {
			more, err := s.read(ctx, shard)
			if err != nil {
				return fmt.Errorf("%s: %w", shard, err)
			}
			busy = busy || more
		}
		if untilIdle && !busy {
			return nil
		}
		time.Sleep(pause)
	}
}

// shards returns the shards that may be read now: neither finished nor children of one that is not.
func (s *Stream) shards(ctx context.Context) ([]string, error) {
	var found []types.Shard
	page := &kinesis.ListShardsInput{StreamName: &s.name}
	for page != nil {
		response, err := s.client.ListShards(ctx, page)
		if err != nil {
			return nil, err
		}
		found = append(found, response.Shards...)
		page = nil
		if response.NextToken != nil {
			page = &kinesis.ListShardsInput{NextToken: response.NextToken}
		}
	}
	// A parent beyond the retention is not listed: nobody can read it any more.
	unfinished := map[string]bool{}
	for _, shard := range found {
		id := aws.ToString(shard.ShardId)
		unfinished[id] = !s.state.Checkpoints[id].Finished
	}
	var ready []string
	for _, shard := range found {
		id := aws.ToString(shard.ShardId)
		waits := unfinished[aws.ToString(shard.ParentShardId)] || unfinished[aws.ToString(shard.AdjacentParentShardId)]
		if unfinished[id] && !waits {
			ready = append(ready, id)
		}
	}
	return ready, nil
}

// read processes one batch of a shard. It reports whether there is more to read now.
func (s *Stream) read(ctx context.Context, shard string) (bool, error) {
	iterator, err := s.iterator(ctx, shard)
	if err != nil {
		return false, err
	}
	delete(s.iterators, shard)
	response, err := s.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: &iterator})
	if mayRetry(err) {
		return true, nil // The next call begins at the checkpoint.
	}
	if err != nil {
		return false, err
	}
	checkpoint := s.state.Checkpoints[shard]
	for _, record := range response.Records {
		if err := s.handleRecord(s.state, record.Data); err != nil {
			return false, err
		}
		checkpoint.SequenceNumber = aws.ToString(record.SequenceNumber)
	}
	checkpoint.Finished = response.NextShardIterator == nil
	if len(response.Records) > 0 || checkpoint.Finished {
		s.state.Checkpoints[shard] = checkpoint
		if err := s.state.commit(); err != nil {
			return false, err
		}
	}
	if checkpoint.Finished {
		return true, nil // Its children may be read now.
	}
	s.iterators[shard] = *response.NextShardIterator
	return aws.ToInt64(response.MillisBehindLatest) > 0, nil
}

// iterator returns the place to read next: that of the last response, else after the checkpoint.
func (s *Stream) iterator(ctx context.Context, shard string) (string, error) {
	if iterator, ok := s.iterators[shard]; ok {
		return iterator, nil
	}
	place := &kinesis.GetShardIteratorInput{
		StreamName:        &s.name,
		ShardId:           &shard,
		ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	}
	if last := s.state.Checkpoints[shard].SequenceNumber; last != "" {
		place.ShardIteratorType = types.ShardIteratorTypeAfterSequenceNumber
		place.StartingSequenceNumber = &last
	}
	response, err := s.client.GetShardIterator(ctx, place)
	if err != nil {
		return "", err
	}
	return aws.ToString(response.ShardIterator), nil
}

func mayRetry(err error) bool {
	var expired *types.ExpiredIteratorException
	var throttled *types.ProvisionedThroughputExceededException
	return errors.As(err, &expired) || errors.As(err, &throttled)
}
