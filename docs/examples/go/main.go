// Inferences over gRPC: one, several at a time on one connection, a stream, an error.
// usage: go run . [HOST:PORT]
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "modeld-example/inference"
)

// request holds the tensor as raw bytes, which costs both sides least.
func request(model string, values ...float32) *pb.ModelInferRequest {
	raw := make([]byte, 0, 4*len(values))
	for _, value := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(value))
	}
	return &pb.ModelInferRequest{
		ModelName: model,
		Inputs: []*pb.ModelInferRequest_InferInputTensor{
			{Name: "INPUT0", Datatype: "FP32", Shape: []int64{1, int64(len(values))}},
		},
		RawInputContents: [][]byte{raw},
	}
}

func total(answer *pb.ModelInferResponse) (sum float32) {
	raw := answer.RawOutputContents[0]
	for ; len(raw) >= 4; raw = raw[4:] {
		sum += math.Float32frombits(binary.LittleEndian.Uint32(raw))
	}
	return sum
}

// stream sends three requests and reads the answers, which come in their order.
func stream(ctx context.Context, client pb.GRPCInferenceServiceClient) ([]float32, error) {
	calls, err := client.ModelStreamInfer(ctx)
	if err != nil {
		return nil, err
	}
	for i := range 3 {
		if err := calls.Send(request("identity", float32(i), float32(i))); err != nil {
			return nil, err
		}
	}
	if err := calls.CloseSend(); err != nil {
		return nil, err
	}
	var sums []float32
	for {
		answer, err := calls.Recv()
		if errors.Is(err, io.EOF) {
			return sums, nil
		}
		if err != nil {
			return nil, err
		}
		if answer.ErrorMessage != "" {
			return nil, errors.New(answer.ErrorMessage)
		}
		sums = append(sums, total(answer.InferResponse))
	}
}

func run(address string) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := pb.NewGRPCInferenceServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	answer, err := client.ModelInfer(ctx, request("identity", 1.5, -2, 0.25))
	if err != nil {
		return err
	}
	fmt.Println("sum of one answer:", total(answer))

	sums := make(chan float32)
	for i := range 4 {
		go func() {
			answer, err := client.ModelInfer(ctx, request("identity", float32(i), float32(i)))
			if err != nil {
				log.Fatal(err)
			}
			sums <- total(answer)
		}()
	}
	fmt.Println("sum of 4 at a time:", <-sums+<-sums+<-sums+<-sums)

	inOrder, err := stream(ctx, client)
	if err != nil {
		return err
	}
	fmt.Println("sums of a stream:", inOrder)

	_, err = client.ModelInfer(ctx, request("nope", 1))
	fmt.Printf("error: %v: %s\n", status.Code(err), status.Convert(err).Message())
	return nil
}

func main() {
	address := "localhost:8001"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if err := run(address); err != nil {
		log.Fatal(err)
	}
}
